"""The number of this process among those that a launcher such as torchrun started.

It is read from the environment that launchers set, so that no heavy package needs to be imported.
"""

from __future__ import annotations

import os
from itertools import pairwise

from mgap_cli.errors import UsageError

_NUMBERS = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")
_DIGITS = 9  # most digits of a number of processes
_PORTS = 65_536
SMALLEST = 2  # fewest rows of a share, because batch norm cannot normalise a single value


def check() -> None:
    """Raise UsageError if the environment names several processes, but lacks other variables."""
    if os.environ.get("WORLD_SIZE", "") in ("", "1"):
        return
    wrong = [name for name in _NUMBERS if not _is_number(os.environ.get(name, ""))]
    wrong += ["MASTER_ADDR"] if not os.environ.get("MASTER_ADDR") else []
    if not wrong:
        value = {name: _number(name, 0) for name in _NUMBERS}
        limits = (  # the number that each variable must stay below
            ("RANK", value["WORLD_SIZE"]),
            ("LOCAL_RANK", value["LOCAL_WORLD_SIZE"]),
            ("LOCAL_WORLD_SIZE", value["WORLD_SIZE"] + 1),
            ("MASTER_PORT", _PORTS),
        )
        wrong = [name for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE") if value[name] < 1]
        wrong += [name for name, limit in limits if value[name] >= limit]
    if wrong:
        values = ", ".join(f"{name} is {_variable(name)}" for name in wrong)
        raise UsageError(
            f"environment: WORLD_SIZE is {_variable('WORLD_SIZE')}, but not as torchrun sets it ({values}).",
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
    """Return whether this is the main process, the only one that writes files and prints."""
    return rank() == 0


def shares(total: int, ranks: int) -> list[slice]:
    """Divide `total` rows into one slice per process, in order and as evenly as possible.

    With too few rows for all, the last processes get none, because no share has fewer than SMALLEST rows.
    """
    used = max(1, min(ranks, total // SMALLEST))
    quotient, more = divmod(total, used)
    ends = [r * quotient + min(r, more) for r in range(used + 1)] + [total] * (ranks - used)
    return [slice(a, b) for a, b in pairwise(ends)]


def refuse_many(command: str, hint: str) -> None:
    """Raise UsageError if a launcher started several processes; for commands of a single process."""
    if size() > 1:
        raise UsageError(f"{command} cannot run under torchrun ({size()} processes).", hint)


def _is_number(word: str) -> bool:
    return word.isdecimal() and len(word) <= _DIGITS


def _number(name: str, default: int) -> int:
    word = os.environ.get(name, "")
    return int(word) if _is_number(word) else default


def _variable(name: str) -> str:
    return (os.environ.get(name) or "not set")[:40]
