"""This process's place among those that a launcher such as torchrun started; alone where there is none.

Read from the environment that launchers set, so that nothing heavy is needed to know who may write.
"""

from __future__ import annotations

import os
from itertools import pairwise

from mgap_cli.errors import UsageError

_NUMBERS = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")
SMALLEST = 2  # rows of a share: batch norm cannot normalise one value by itself


def check() -> None:
    """Raise UsageError where the environment says that there are several processes, but not all of it."""
    if os.environ.get("WORLD_SIZE", "") in ("", "1"):
        return
    wrong = [name for name in _NUMBERS if not os.environ.get(name, "").isdecimal()]
    if wrong or "MASTER_ADDR" not in os.environ:
        told = ", ".join(f"{name} is {os.environ.get(name, 'not set')}" for name in wrong or ["MASTER_ADDR"])
        raise UsageError(
            f"environment: WORLD_SIZE is {os.environ['WORLD_SIZE']}, but not as torchrun sets it ({told}).",
            "Start with torchrun, or unset WORLD_SIZE.",
        )


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
    word = os.environ.get(name, "")
    return int(word) if word.isdecimal() else default
