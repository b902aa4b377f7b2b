"""Stop signals: the handler sets a flag, and the training loop reads it between steps."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from mgap_cli import processes
from mgap_cli.errors import STOP_SIGNALS


class StopFlag:
    """`caught`: the signal that this process received. `agreed`: the signal of any process. 0 for none."""

    def __init__(self) -> None:
        self.caught = self.agreed = 0

    def agree(self, largest: Callable[[int], int]) -> bool:
        """Return whether to stop, the same in all processes; `largest` returns the maximum over processes."""
        self.agreed = largest(self.caught)
        return bool(self.agreed)

    @property
    def name(self) -> str:
        return "Ctrl-C" if self.by_user else signal.Signals(self.agreed).name

    @property
    def by_user(self) -> bool:
        """Return whether it was Ctrl-C alone, and not a scheduler's signal."""
        return self.agreed == signal.SIGINT


@contextmanager
def stop_on_signal(numbers: Sequence[int] = STOP_SIGNALS) -> Iterator[StopFlag]:
    """Catch these signals within the block; the earlier handlers come back after it.

    A second Ctrl-C raises KeyboardInterrupt at once, unless there are several processes: their launcher sends
    the signal once more to all of them. SIGINT stays ignored where it is ignored, such as in a job that a
    script has put in the background.
    """
    flag = StopFlag()

    def handle(number: int, frame: FrameType | None) -> None:
        if number == flag.caught == signal.SIGINT and processes.size() == 1:
            raise KeyboardInterrupt
        flag.caught = max(flag.caught, number)  # SIGTERM and SIGUSR1 are larger than SIGINT

    caught = [n for n in numbers if n != signal.SIGINT or signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in caught}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """Ignore SIGTERM and SIGUSR1 from now on.

    A launcher sends one of them to all processes as soon as the first has ended. The others are then ending
    too, and must not be interrupted.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
