"""The processor cores that this process may use."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def usable_cores() -> int:
    """Return the number of cores that this process may run on, at least 1.

    Counts the cores that the scheduler allows, and on Linux the processor time that the control group allows.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *_quotas()]))


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
