"""Choose the number of CPU threads for training, and log the reason.

The number may change the last bits of a result, so a run keeps the number that it began with.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from mgap_cli import processes
from mgap_cli.cores import free_cores, usable_cores
from mgap_cli.errors import UsageError

MOST_THREADS = 4096
_VARIABLE = "OMP_NUM_THREADS"  # the variable that PyTorch and its launchers read


@dataclass(frozen=True)
class Threads:
    """number: CPU threads of this process. reason: the reason for this number, for the log."""

    number: int
    reason: str


def choose_threads(wanted: str, begun: object = None) -> Threads:
    """Return the number of threads for the setting `runtime.threads`: `auto`, or a number.

    begun: the number that the run began with, None for a new run. `auto` takes this number. For a new run it
    takes OMP_NUM_THREADS. Without that variable it divides the usable cores that other processes leave idle
    among the processes of this machine, and takes at least 1. Raises UsageError unless `wanted` is `auto` or
    a number from 1.
    """
    began = begun if type(begun) is int and 1 <= begun <= MOST_THREADS else None
    if wanted != "auto":
        number = _number(wanted)
        if number is None:
            raise UsageError(f"--threads {wanted}: not a number of threads.", "Use auto, or a number from 1.")
        other = began is not None and began != number
        reason = f"as asked; the run began with {began}, so its last bits may differ" if other else "as asked"
        return Threads(number, reason)
    cores = usable_cores()
    if began is not None:
        if began <= cores:
            return Threads(began, "auto: as many as the run began with")
        reason = f"auto: the run began with {began}, and {cores} cores are usable here; last bits may differ"
        return Threads(cores, reason)
    if number := _number(os.environ.get(_VARIABLE, "").partition(",")[0].strip()):
        return Threads(number, f"auto: the value of {_VARIABLE}")
    free, sharing = free_cores(), processes.local_size()
    number = max(1, int(free / sharing + 0.5))
    reason = f"auto: {cores} usable cores, {cores - free:.1f} of them busy"
    return Threads(number, reason if sharing == 1 else f"{reason}, for {sharing} processes")


def use_threads(number: int) -> None:
    """Set the number of threads that PyTorch computes with in this process."""
    import torch

    torch.set_num_threads(number)


def _number(word: str) -> int | None:
    return int(word) if word.isdecimal() and 1 <= int(word[:9]) <= MOST_THREADS and len(word) < 9 else None
