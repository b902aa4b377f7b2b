"""The one exception a user is meant to see, the exit codes of the program, and the signals that stop it."""

from __future__ import annotations

import signal
from enum import IntEnum

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # a scheduler's kill, and Slurm's --signal=USR1@120


class ExitCode(IntEnum):
    """What the shell sees. 75 is sysexits' EX_TEMPFAIL: the same line run again goes on."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNFIT = 3
    PREEMPTED = 75
    INTERRUPTED = 130


class MgapError(Exception):
    """Something a user did, or has on disk, that stops the program.

    `message` says what is wrong and where; `hint` says what to do, best as the next command.
    """

    def __init__(self, message: str, hint: str = "", exit_code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


class UsageError(MgapError):
    """Wrong use of the command line or of a configuration key (exit 2)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint, ExitCode.USAGE)


class UnfitError(MgapError):
    """The data, store or checkpoint is missing, damaged or of the wrong kind (exit 3)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint, ExitCode.UNFIT)


def one_line(error: BaseException, limit: int = 200) -> str:
    """Return what another library's exception says, as one line of printable text for a message of ours."""
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    words = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return words if len(words) <= limit else f"{words[: limit - 3]}..."
