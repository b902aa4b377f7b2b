"""Hartigan's dip: how far a sample is from the nearest unimodal distribution, and its p-value.

J. A. Hartigan and P. M. Hartigan, "The Dip Test of Unimodality", Annals of Statistics 13 (1985). The dip of
a distribution function F is the smallest D such that some unimodal G (convex up to its mode, concave from
there on, with a jump allowed at it) has sup |F - G| <= D. This code was written from that definition.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from mgap_cli.stats.arrays import FloatArray, IntArray

SIMULATED = 1000  # largest sample that is simulated; sqrt(n) dip hardly changes above it
_PLAIN = 64  # with fewer points than this, the hull is found one point after another in Python


def dip(values: FloatArray) -> float:
    """Return the dip of (N,) values, N >= 2, in [1 / 2N, 1 / 4].

    This is Hartigan's algorithm. It starts from an interval that contains the mode: the whole range. In each
    round it takes the greatest convex minorant and the least concave majorant of the empirical distribution
    function in the interval. The place where the two are farthest apart gives the next, smaller interval. The
    rounds end when the hulls inside are no farther apart than the function is from the hulls outside. The dip
    is half of the largest distance between the function and the hulls outside, and at least 1 / 2N. With
    ties, such as N equal values, the dip of the definition can be smaller than 1 / 2N.
    """
    x, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    n = int(counts.sum())
    after = np.cumsum(counts) / n  # F(x)
    before = after - counts / n  # F just below x
    low, high, largest = 0, len(x) - 1, 1 / n
    while low < high:
        part = slice(low, high + 1)
        minorant = low + _lower_hull(x[part], before[part])
        majorant = low + _lower_hull(x[part], -after[part])
        convex = np.interp(x[part], x[minorant], before[minorant])
        concave = np.interp(x[part], x[majorant], after[majorant])
        apart = concave - convex
        at_minorant = minorant[np.argmax(apart[minorant - low])]
        at_majorant = majorant[np.argmax(apart[majorant - low])]
        width = max(apart[at_minorant - low], apart[at_majorant - low])
        if width <= largest:
            break
        if apart[at_minorant - low] >= apart[at_majorant - low]:
            new_low = at_minorant
            new_high = majorant[np.searchsorted(majorant, at_minorant)]
        else:
            new_high = at_majorant
            new_low = minorant[np.searchsorted(minorant, at_majorant, side="right") - 1]
        # G may jump at its mode, so the part above the interval's ends is left to the next round.
        left, right = np.arange(low, new_low + 1), np.arange(new_high, high + 1)
        beyond_left = np.where(left < new_low, after[left], before[left]) - convex[left - low]
        beyond_right = concave[right - low] - np.where(right > new_high, before[right], after[right])
        largest = max(largest, beyond_left.max(), beyond_right.max())
        if (new_low, new_high) == (low, high):
            break
        low, high = int(new_low), int(new_high)
    return float(largest / 2)


def dip_p_value(statistic: float, n: int, resamples: int, seed: int) -> float:
    """Return the share of uniform samples of size `n` whose dip is at least `statistic`.

    Asymptotically, the uniform distribution has the largest dip of all unimodal ones (Hartigan and Hartigan).
    The share is (1 + hits) / (1 + resamples), which is never 0 (Davison and Hinkley, 1997). Above `SIMULATED`
    samples, sqrt(n) dip is compared instead of the dip, because its distribution has a limit.
    """
    size = min(n, SIMULATED)
    scaled = statistic * np.sqrt(n)
    null = _uniform_dips(size, resamples, seed) * np.sqrt(size)
    return float((1 + np.count_nonzero(null >= scaled - 1e-12)) / (1 + resamples))


@lru_cache(maxsize=8)  # several pairs of modalities have the same samples
def _uniform_dips(size: int, resamples: int, seed: int) -> FloatArray:
    generator = np.random.default_rng(seed)
    return np.array([dip(generator.random(size)) for _ in range(resamples)])


def _lower_hull(x: FloatArray, y: FloatArray) -> IntArray:
    """Return the positions of the corners of the greatest convex minorant of points (x ascending, y)."""
    kept = np.arange(len(x))
    # A point on or above the line between two others is not a corner. All points above the line between their
    # neighbours are removed at once, until few are left or none is removed.
    while len(kept) > _PLAIN:
        a, b, c = kept[:-2], kept[1:-1], kept[2:]
        below = (y[b] - y[a]) * (x[c] - x[b]) < (y[c] - y[b]) * (x[b] - x[a])
        if below.all():
            return kept
        kept = kept[np.concatenate([[True], below, [True]])]
    px, py = x[kept].tolist(), y[kept].tolist()
    corners: list[int] = []
    for i in range(len(kept)):
        while len(corners) > 1:
            j, k = corners[-2], corners[-1]
            if (py[k] - py[j]) * (px[i] - px[k]) < (py[i] - py[k]) * (px[k] - px[j]):
                break
            corners.pop()
        corners.append(i)
    return kept[corners]
