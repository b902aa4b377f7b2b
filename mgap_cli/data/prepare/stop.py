"""Handle SIGTERM and SIGUSR1 while a store is built: stop at once; finished clips are on the disk."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from mgap_cli.errors import STOP_SIGNALS, ExitCode, MgapError


class _Stopped(BaseException):
    """Not a subclass of Exception, so that it does not count as a clip that cannot be read."""


@contextmanager
def leave_on_signal(out: Path) -> Iterator[None]:
    """End the block with MgapError (exit 75) on SIGTERM or SIGUSR1; restore the old handlers after it.

    Only the main thread can catch signals; in another thread, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        for other in STOP_SIGNALS:
            signal.signal(other, signal.SIG_IGN)  # a second signal must not interrupt the exit
        raise _Stopped(signal.Signals(number).name)

    before = {number: signal.signal(number, handle) for number in STOP_SIGNALS}
    try:
        yield
    except _Stopped as stop:
        raise MgapError(
            f"{out}: stopped by {stop}; the finished clips are kept.",
            "Run the same command again: it continues.",
            ExitCode.PREEMPTED,
        ) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
