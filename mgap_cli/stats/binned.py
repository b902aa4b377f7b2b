"""Gaps as counts in bins, and the EM that fits many such samples together (see `stats/em.py`).

This is what makes a bootstrap affordable: a resample of a million gaps costs the same as one of a thousand.
"""

from __future__ import annotations

import numpy as np

from mgap_cli.stats.arrays import FloatArray
from mgap_cli.stats.em import Components, fit, refine

WIDTH = 1 / 4  # of a bin, in floors: width^2 / 12, which it adds to a variance, is 0.5 % of the smallest one

__all__ = ["Components", "centres", "edges", "fit", "refine"]


def edges(low: float, high: float, sd_floor: float) -> FloatArray:
    """Return the (M + 1,) edges of equal bins that cover [low, high]."""
    return np.linspace(low, high, 1 + int(np.ceil((high - low) / (WIDTH * sd_floor))))


def centres(borders: FloatArray) -> FloatArray:
    """Return (M,) bin centres."""
    return np.asarray((borders[1:] + borders[:-1]) / 2)
