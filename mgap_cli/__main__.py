"""The entry point: runs the app, and turns what goes wrong into a message and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from mgap_cli import launch
from mgap_cli.errors import STOP_SIGNALS, ExitCode, MgapError, UsageError


class _Stopped(BaseException):
    """SIGTERM or SIGUSR1 where nothing needs to be saved: before training, after it, in other commands."""


def main() -> NoReturn:
    """Run `mgap`. Never returns, and never shows a traceback unless asked to with `--debug`."""
    try:
        launch.check()
    except UsageError as error:  # there is no launcher's store through which to end together
        _tell(error.message, error.hint, error)
        sys.exit(error.exit_code)
    try:
        if not launch.is_main():  # of several processes one speaks; of a failure, the one that has it
            sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
        for number in STOP_SIGNALS:  # training and preparing have handlers of their own
            signal.signal(number, _leave)
        from mgap_cli.app import app

        app(prog_name="mgap")
    except MgapError as error:
        _fail(error.exit_code, error.message, error.hint, error)
    except _Stopped as stop:
        _fail(ExitCode.PREEMPTED, f"stopped by {stop}.", "Run the same line again.")
    except KeyboardInterrupt:
        _fail(ExitCode.INTERRUPTED, "interrupted.")
    except SystemExit as end:  # Typer turns Ctrl-C into its exit code, without a word
        if end.code == ExitCode.INTERRUPTED:
            _fail(ExitCode.INTERRUPTED, "interrupted.")
        if end.code and launch.size() > 1:
            _fail(ExitCode.FAILED if isinstance(end.code, str) else end.code)
        raise
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # the reader of our pipe has left, as `| head` does
            where = f"{error.filename}: " if error.filename else ""
            _fail(ExitCode.FAILED, f"{where}{error.strerror or error}.", "", error)
        # What stdout still holds goes nowhere: Python would complain of it once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.FAILED)
    except Exception as error:
        if launch.size() > 1:
            from mgap_cli.training.distributed import lost

            if left := lost(error):
                _fail(left.exit_code, left.message, left.hint, error)
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        hint = "This is a defect of mgap: please report it with `mgap --debug ...`."
        _fail(ExitCode.FAILED, f"unexpected: {what}", hint, error)
    sys.exit(ExitCode.DONE)


def _leave(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough, and the way out must not be cut short
    raise _Stopped(signal.Signals(number).name)


def _fail(code: int, message: str = "", hint: str = "", error: Exception | None = None) -> NoReturn:
    """Tell why, once for all processes of a run, and exit; no message: it was told."""
    if launch.size() > 1:
        from mgap_cli.training.distributed import end_together

        end_together((lambda: _tell(message, hint, error)) if message else None, code)
    if message:
        _tell(message, hint, error)
    sys.exit(code)


def _tell(message: str, hint: str, error: Exception | None) -> None:
    sys.stderr = sys.__stderr__
    if error is not None and ("--debug" in sys.argv or os.environ.get("MGAP_DEBUG", "") not in ("", "0")):
        import traceback

        traceback.print_exception(error)
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"  {hint}", file=sys.stderr)


if __name__ == "__main__":
    main()
