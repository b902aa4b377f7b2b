"""The entry point: runs the app, and turns what goes wrong into a message and an exit code."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from mgap_cli.errors import ExitCode, MgapError


def main() -> NoReturn:
    """Run `mgap`. Never returns, and never shows a traceback unless asked to with `--debug`."""
    from mgap_cli.app import app

    try:
        app(prog_name="mgap")
    except MgapError as error:
        _tell(error.message, error.hint, error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _tell("interrupted.", "")
        sys.exit(ExitCode.INTERRUPTED)
    except SystemExit as end:  # Typer turns Ctrl-C into its exit code, without a word
        if end.code == ExitCode.INTERRUPTED:
            _tell("interrupted.", "")
        raise
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # the reader of our pipe has left, as `| head` does
            where = f"{error.filename}: " if error.filename else ""
            _tell(f"{where}{error.strerror or error}.", "", error)
        # What stdout still holds goes nowhere: Python would complain of it once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.FAILED)
    except Exception as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        _tell(
            f"unexpected: {what}",
            "This is a defect of mgap: please report it with `mgap --debug ...`.",
            error,
        )
        sys.exit(ExitCode.FAILED)
    sys.exit(ExitCode.DONE)


def _tell(message: str, hint: str, error: Exception | None = None) -> None:
    if error is not None and ("--debug" in sys.argv or os.environ.get("MGAP_DEBUG", "") not in ("", "0")):
        import traceback

        traceback.print_exception(error)
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"  {hint}", file=sys.stderr)


if __name__ == "__main__":
    main()
