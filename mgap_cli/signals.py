"""Stop signals: the handler sets a flag, and the training loop reads it between steps."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from mgap_cli.errors import STOP_SIGNALS


class StopFlag:
    """The signal that this process received (`caught`), and any process of the run (`agreed`); 0 for none."""

    def __init__(self) -> None:
        self.caught = self.agreed = 0

    def agree(self, largest: Callable[[int], int]) -> bool:
        """Return whether to stop, the same in all processes; `largest` is their maximum of a number."""
        self.agreed = largest(self.caught)
        return bool(self.agreed)

    @property
    def name(self) -> str:
        return signal.Signals(self.agreed).name


@contextmanager
def stop_on_signal() -> Iterator[StopFlag]:
    """Catch SIGTERM and SIGUSR1 within the block; the earlier handlers come back after it."""
    flag = StopFlag()

    def handle(number: int, frame: FrameType | None) -> None:
        flag.caught = number

    before = {number: signal.signal(number, handle) for number in STOP_SIGNALS}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """Ignore SIGTERM and SIGUSR1 from now on.

    A launcher sends one to all processes as soon as the first has ended: the others are then ending too,
    and must not be interrupted.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
