"""The one exception a user is meant to see, the exit codes of the program, and the signals that stop it."""

from __future__ import annotations

import difflib
import signal
import sys
from collections.abc import Iterable
from enum import IntEnum

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # a scheduler's kill, and Slurm's --signal=USR1@120


class ExitCode(IntEnum):
    """What the shell sees. 75 is EX_TEMPFAIL of sysexits.h: the same command continues."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNFIT = 3
    PREEMPTED = 75
    INTERRUPTED = 130


class MgapError(Exception):
    """A failure that the user can correct.

    `message` says what is wrong and where; `hint` says what to do, if possible as a command.
    """

    def __init__(self, message: str, hint: str = "", exit_code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code
        if hint and sys.version_info >= (3, 11):
            self.add_note(hint)  # a user's own program prints the hint below the message


class UsageError(MgapError):
    """Wrong use of the command line or of a configuration key (exit 2)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint, ExitCode.USAGE)


class UnfitError(MgapError):
    """The data, store or checkpoint is missing, damaged or of the wrong kind (exit 3)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint, ExitCode.UNFIT)


def did_you_mean(given: str, known: Iterable[str], otherwise: str, form: str = "{}") -> str:
    """Return the hint for a name that is unknown: the known name nearest to it, or `otherwise`.

    form: how the name is written in the hint, with {} in its place.
    """
    nearest = difflib.get_close_matches(given, [*known], n=1)
    return f"Did you mean {form.format(nearest[0])}?" if nearest else otherwise


def reason_of(cause: BaseException | str) -> str:
    """Return why something failed, as one line of printable text with at most 300 characters."""
    if isinstance(cause, RecursionError):
        text = "it is nested too deeply"
    elif isinstance(cause, MemoryError):
        text = "it does not fit in memory"
    elif isinstance(cause, OSError) and cause.strerror:
        text = cause.strerror
    else:
        text = str(cause)[:2000]
        if isinstance(cause, KeyError):
            text = f"{text} is missing"
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split()) or type(cause).__name__
    return text if len(text) <= 300 else f"{text[:299]}…"
