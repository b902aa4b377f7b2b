"""This process's place among those that a launcher such as torchrun started; alone where there is none.

Read from the environment that launchers set, so that nothing heavy is needed to know who may write.
"""

from __future__ import annotations

import os
from itertools import pairwise

from mgap_cli.errors import UsageError

SMALLEST = 2  # rows of a share: batch norm cannot normalise one value by itself


def size() -> int:
    """Return how many processes there are."""
    return _number("WORLD_SIZE", 1)


def rank() -> int:
    """Return this process's number, from 0, among all."""
    return _number("RANK", 0) if size() > 1 else 0


def local_rank() -> int:
    """Return this process's number, from 0, on its machine."""
    return _number("LOCAL_RANK", 0) if size() > 1 else 0


def local_size() -> int:
    """Return how many processes there are on this machine."""
    return _number("LOCAL_WORLD_SIZE", 1) if size() > 1 else 1


def is_main() -> bool:
    """Say whether this is the one process that writes and speaks."""
    return rank() == 0


def shares(total: int, ranks: int) -> list[slice]:
    """Cut `total` rows into a slice a process: each row in one of them, in order, as even as it goes.

    Where there are too few rows for all, the last processes get none: nobody gets fewer than SMALLEST.
    """
    used = max(1, min(ranks, total // SMALLEST))
    quotient, more = divmod(total, used)
    ends = [r * quotient + min(r, more) for r in range(used + 1)] + [total] * (ranks - used)
    return [slice(a, b) for a, b in pairwise(ends)]


def refuse_many(command: str, hint: str) -> None:
    """Raise UsageError under a launcher of several processes, for a command that is one process's work."""
    if size() > 1:
        raise UsageError(f"{command} is not for torchrun ({size()} processes).", hint)


def _number(name: str, default: int) -> int:
    word = os.environ.get(name, str(default))
    if not word.isdecimal():
        raise UsageError(f"environment: {name} is {word!r}; expected a number, as torchrun sets it.")
    return int(word)
