"""The processor cores that this process may use, and how many of them other processes keep busy."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

_SAMPLE_SECONDS = 0.3  # how long other processes are watched: 30 ticks of the kernel's clock per core
_IDLE = (3, 4)  # positions of idle and iowait in a line of /proc/stat, after its name


def usable_cores() -> int:
    """Return the number of cores that this process may run on, at least 1.

    Counts the cores that the scheduler allows, and on Linux the processor time that the control group allows.
    """
    return max(1, min([len(_allowed()), *_quotas()]))


def free_cores() -> float:
    """Return how many usable cores other processes leave idle, from 0 to `usable_cores()`.

    On Linux it watches the allowed cores for 0.3 s, so that a command that has just ended does not count.
    Elsewhere it is the number of cores less the load average of the last minute.
    """
    allowed = _allowed()
    try:
        before = Path("/proc/stat").read_text()
        time.sleep(_SAMPLE_SECONDS)
        busy = busy_between(before, Path("/proc/stat").read_text(), allowed)
    except (OSError, ValueError, IndexError):
        busy = os.getloadavg()[0]
    return min(usable_cores(), max(0.0, len(allowed) - busy))


def busy_between(before: str, after: str, cores: Collection[int]) -> float:
    """Return how many of `cores` were busy, on average, between two states of /proc/stat.

    Raises ValueError or IndexError if a text has another form.
    """
    first, last = _times(before), _times(after)
    busy = 0.0
    for core in cores:
        if core in first and core in last:
            spent = [b - a for a, b in zip(first[core], last[core], strict=True)]
            busy += 1 - sum(spent[i] for i in _IDLE) / sum(spent) if sum(spent) > 0 else 0
    return busy


def _times(stat: str) -> dict[int, list[int]]:
    """Return the ticks that each core has spent: user, nice, system, idle, iowait, irq, softirq, steal."""
    lines = (line.split() for line in stat.splitlines() if line.startswith("cpu") and line[3].isdigit())
    return {int(words[0][3:]): [int(word) for word in words[1:9]] for words in lines}


def _allowed() -> set[int]:
    """Return the numbers of the cores that the scheduler allows."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _quotas() -> list[int]:
    """Return how many cores the control groups of this process allow, each rounded up."""
    limits: list[int] = []
    with suppress(OSError, ValueError, ZeroDivisionError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            group = Path("/sys/fs/cgroup") / line.removeprefix("0::/")
            for folder in (group, *group.parents) if line.startswith("0::/") else ():
                if (folder / "cpu.max").is_file():
                    quota, period = (folder / "cpu.max").read_text().split()
                    limits += [-(-int(quota) // int(period))] if quota != "max" else []
    return limits
