"""The entry point: run the app, and turn a failure into a message and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from mgap_cli import processes
from mgap_cli.errors import STOP_SIGNALS, ExitCode, MgapError, UsageError
from mgap_cli.output import open_missing_streams, printable_lines, say
from mgap_cli.packages import package_of

_YES = ("1", "true", "t", "yes", "y", "on")  # as Typer reads them


class _Stopped(BaseException):
    """SIGTERM or SIGUSR1 while nothing needs to be saved: before or after training, or in other commands."""


def main() -> NoReturn:
    """Run `mgap`. The function never returns, and shows a traceback only with `--debug`."""
    open_missing_streams()
    os.environ["MPLBACKEND"] = "agg"  # plots go to files: the user's window system must not matter
    try:
        processes.check()
    except UsageError as error:  # without the launcher's store, the processes cannot end together
        _tell(error.message, error.hint, error)
        sys.exit(error.exit_code)
    code: int = ExitCode.DONE
    try:
        if not processes.is_main():  # only one of several processes prints
            sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
        for number in STOP_SIGNALS:  # training and preparing have handlers of their own
            signal.signal(number, _leave)
        from mgap_cli.app import start

        code = start()
    except MgapError as error:
        _fail(error.exit_code, error.message, error.hint, error)
    except _Stopped as stop:
        _fail(ExitCode.PREEMPTED, f"stopped by {stop}.", "Run the same command again.")
    except KeyboardInterrupt:
        _fail(ExitCode.INTERRUPTED, "interrupted.")
    except SystemExit as end:
        if end.code and processes.size() > 1:
            _fail(ExitCode.FAILED if isinstance(end.code, str) else end.code)
        raise
    except ImportError as error:
        _fail(ExitCode.FAILED, *_cannot_import(error), error)
    except MemoryError as error:
        _fail(ExitCode.FAILED, "out of memory.", "Use a machine with more memory, or fewer data.", error)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # the reader of the pipe has ended, as `| head` does
            where = f"{error.filename}: " if error.filename else ""
            _fail(ExitCode.FAILED, f"{where}{error.strerror or error}.", "", error)
        # Discard what is left in stdout: Python would report the broken pipe again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.FAILED)
    except Exception as error:
        if processes.size() > 1:
            from mgap_cli.training.distributed import lost

            if left := lost(error):
                _fail(left.exit_code, left.message, left.hint, error)
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        hint = "This is a bug in mgap. Run the command again as `mgap --debug ...` and report what it prints."
        _fail(ExitCode.FAILED, f"internal error: {what}", hint, error)
    if code:
        _fail(code)
    sys.exit(ExitCode.DONE)


def _leave(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second signal must not interrupt the exit
    raise _Stopped(signal.Signals(number).name)


def _cannot_import(error: ImportError) -> tuple[str, str]:
    """Return the message and the hint for a package that is missing or does not load."""
    package = (error.name or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and package not in ("", "mgap_cli"):
        name = package_of(package)
        return (
            f"the Python package {name} is not installed.",
            f"Install it with `python -m pip install {name}`.",
        )
    what = f"the Python package {package}" if package else "a Python package"
    return (
        f"{what} cannot be loaded ({' '.join(str(error).split())}).",
        "Install mgap and its packages again: `python -m pip install --force-reinstall mgap`.",
    )


def _fail(code: int, message: str = "", hint: str = "", error: Exception | None = None) -> NoReturn:
    """Print the message once for all processes of a run, and exit. Without a message, only exit."""
    if processes.size() > 1:
        with suppress(ImportError):  # a broken installation: each process prints the message
            from mgap_cli.training.distributed import end_together

            end_together((lambda: _tell(message, hint, error)) if message else None, code)
    if message:
        _tell(message, hint, error)
    sys.exit(code)


def _tell(message: str, hint: str, error: Exception | None) -> None:
    # A process that prints nothing has /dev/null as stderr, but may be the one that failed.
    stream = sys.stderr if processes.is_main() else sys.__stderr__
    with suppress(BrokenPipeError):  # nobody reads it
        if error is not None and ("--debug" in sys.argv or os.environ.get("MGAP_DEBUG", "").lower() in _YES):
            import traceback

            lines = "".join(traceback.format_exception(error))
            print(printable_lines(lines.rstrip("\n")), file=stream)
        say(f"error: {message}", stream)
        if hint:
            say(f"  {hint}", stream)


if __name__ == "__main__":
    main()
