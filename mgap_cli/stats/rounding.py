"""Find the step of scores that were rounded when they were written, and undo the ties of their gaps.

Thousands of gaps with two decimals have only a hundred different values. A test for several peaks takes each
of these values for a peak, and so finds several populations where there is one (ours).
"""

from __future__ import annotations

import numpy as np

from mgap_cli.stats.arrays import FloatArray, IntArray

FINEST = 10_000  # most steps per unit: a finer grid makes few ties
TOLERANCE = 1e-7  # how far float32 scores may be from the grid
_PROBES = 24  # number of distinct values that are compared first; they exclude most grids


def grid_step(gap: FloatArray) -> float | None:
    """Return the largest step 1 / m (m a whole number up to `FINEST`) of which all gaps (N,) are multiples.

    None if there is no such step, or if there are at least half as many distinct values as gaps, so that
    rounding hides little.
    """
    distinct = np.unique(gap)
    probes = distinct[np.unique(np.linspace(0, len(distinct) - 1, _PROBES).astype(np.int64))]
    steps = np.arange(1, FINEST + 1)
    possible = steps[_off_grid(probes, steps[:, None]).max(axis=1) <= TOLERANCE]
    step = next((float(m) for m in possible if _off_grid(distinct, m).max() <= TOLERANCE), None)
    if step is None or 2 * len(np.unique(np.round(distinct * step))) >= len(gap):
        return None
    return 1 / step


def spread_over_step(gap: FloatArray, step: float) -> FloatArray:
    """Return gaps (N,) with those that are equal spread evenly over the step that rounding merged.

    A gap at k steps becomes one between k - 1/2 and k + 1/2 steps. A unimodal sample stays unimodal. The
    result's |gap| is right near 0, too, where the absolute value folds a step. Values beyond -1 and 1 are
    reflected into [-1, 1].
    """
    cell = np.round(gap / step).astype(np.int64)
    order = np.argsort(cell, kind="stable")
    _, first, count = np.unique(cell[order], return_index=True, return_counts=True)
    rank = np.arange(len(gap)) - np.repeat(first, count)
    spread = np.empty(len(gap))
    spread[order] = step * (cell[order] + (rank + 0.5) / np.repeat(count, count) - 0.5)
    beyond = np.abs(spread) > 1
    spread[beyond] = np.sign(spread[beyond]) * 2 - spread[beyond]
    return spread


def _off_grid(values: FloatArray, steps: IntArray | np.int64) -> FloatArray:
    """Return how far values are from the nearest multiple of 1 / steps."""
    scaled = values * steps
    return np.asarray(np.abs(scaled - np.round(scaled)) / steps)
