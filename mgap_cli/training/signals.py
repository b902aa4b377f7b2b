"""A polite end: the handler sets a flag, the loop looks at it between steps."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # a scheduler's kill, and Slurm's --signal=USR1@120


class StopFlag:
    """Set by the first signal; `name` is that signal's."""

    def __init__(self) -> None:
        self.name = ""

    def __bool__(self) -> bool:
        return bool(self.name)


@contextmanager
def stop_on_signal() -> Iterator[StopFlag]:
    """Catch SIGTERM and SIGUSR1 within the block; the handlers that stood before come back after it."""
    flag = StopFlag()

    def handle(number: int, frame: FrameType | None) -> None:
        flag.name = signal.Signals(number).name

    before = {number: signal.signal(number, handle) for number in STOP_SIGNALS}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
