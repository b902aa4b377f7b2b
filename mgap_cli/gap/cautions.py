"""Warnings about results that a reader of the word "balanced" may misunderstand.

The rules and their limits are ours.
"""

from __future__ import annotations

import numpy as np

from mgap_cli.config import AnalysisConfig
from mgap_cli.gap.mixture import MIN_SAMPLES, GapFit
from mgap_cli.stats.arrays import FloatArray
from mgap_cli.stats.intervals import student_interval

FAR = 0.25  # |mean| from which the balanced component is called far from 0
NEAR_CHANCE = 0.05  # up to this share of the way from chance to certainty, a head has learnt nothing
_BINS = 512
_LEVELS = 200  # number of density levels at which peaks are cut off


def cautions(fit: GapFit, values: FloatArray | None, confidence: float) -> tuple[str, ...]:
    """Return a sentence for each way in which the fit may be misunderstood.

    values: (N,) the values that the mixture is over, if the dip test found more than one peak in them.
    confidence: the level of the intervals.
    """
    sentences = [_nothing_learnt(fit, confidence), _far_from_zero(fit)]
    if values is not None:
        sentences.append(_one_component_with_both_peaks(fit, values))
    return tuple(sentence for sentence in sentences if sentence)


def memorised(fit: GapFit, other: GapFit, split: str, held_out: str, config: AnalysisConfig) -> str:
    """Return a sentence if the mean |gap| of `split` is far smaller than on held-out samples, or "".

    Far smaller: less than half, and the two intervals do not overlap.
    """
    gap, theirs = np.abs(fit.scores.gap), np.abs(other.scores.gap)
    interval, other_interval = (student_interval(g, config.confidence) for g in (gap, theirs))
    if (
        interval is None
        or other_interval is None
        or interval.high >= other_interval.low
        or gap.mean() >= theirs.mean() / 2
    ):
        return ""
    return (
        f"the mean |gap| is {gap.mean():.3f} on {split} and {theirs.mean():.3f} on {held_out}: the network "
        f"has memorised {split}, where a memorised sample shows no gap. Analyse --split {held_out}."
    )


def _nothing_learnt(fit: GapFit, confidence: float) -> str:
    """Return a sentence if, in the balanced samples, no head is distinguishable from chance, or ""."""
    classes = len(fit.scores.classes)
    balanced = ~fit.imbalanced
    if classes < 2 or np.count_nonzero(balanced) < MIN_SAMPLES:
        return ""
    chance = 1 / classes
    limit = chance + NEAR_CHANCE * (1 - chance)
    means = []
    for name, p in fit.scores.p.items():
        interval = student_interval(p[balanced], confidence)
        if interval is None or interval.low > limit:
            return ""
        low, high = max(interval.low, 0.0), min(interval.high, 1.0)
        means.append(f"{name} {p[balanced].mean():.3f} ({low:.3f} to {high:.3f})")
    return (
        "balanced may mean that nothing was learnt: in the balanced samples no head is better than chance. "
        f"Mean p of the true class: {', '.join(means)}; chance is 1/{classes} = {chance:.3f}."
    )


def _far_from_zero(fit: GapFit) -> str:
    mean = float(fit.mixture.means[fit.mixture.balanced])
    if abs(mean) <= FAR:
        return ""
    return (
        f"the balanced component's mean gap is {mean:.2f}, far from 0: its samples are only the less "
        "imbalanced ones. They are balanced only in comparison with the rest."
    )


def _one_component_with_both_peaks(fit: GapFit, values: FloatArray) -> str:
    peaks = two_peaks(values, -1.0 if fit.mixture.gap_kind == "signed" else 0.0)
    if len(fit.mixture.weights) < 2 or peaks is None:
        return ""
    first, second = fit.mixture.components(np.array(peaks)).tolist()
    if first != second:
        return ""
    return (
        f"both peaks that the dip test sees, at gaps of about {peaks[0]:.2f} and {peaks[1]:.2f}, lie inside "
        f"the {fit.role(first)} component: the components and their shares are not those of the peaks."
    )


def two_peaks(values: FloatArray, low: float) -> tuple[float, float] | None:
    """Return the medians of the two peaks that the dip of (N,) values in [low, 1] measures, or None.

    The excess mass of an interval at level l is its share of the values minus l times its length. The peaks
    are the two intervals that, at the best level, have the most excess mass beyond that of one interval,
    which is twice the dip (Mueller and Sawitzki, Journal of the American Statistical Association 86, 1991).
    """
    clipped = np.clip(values, low, 1.0)
    counts, edges = np.histogram(clipped, bins=_BINS, range=(low, 1.0))
    share, width = counts / len(values), float(edges[1] - edges[0])
    levels = np.geomspace(0.05, max(float(share.max()) / width, 0.1), _LEVELS)
    excess = share[:, None] - levels * width  # (M, L)
    before, after = _best_so_far(excess), _best_so_far(excess[::-1])[::-1]
    both = before[:-1] + after[1:]  # the best intervals before and after each border
    beyond = both.max(axis=0) - before[-1]
    level = int(beyond.argmax())
    if beyond[level] <= 0:
        return None
    border = int(both[:, level].argmax()) + 1
    first = _best_interval(excess[:border, level])
    second = _best_interval(excess[border:, level])
    peaks = []
    for start, end in (first, (second[0] + border, second[1] + border)):
        inside = (clipped >= edges[start]) & (clipped <= edges[end])
        peaks.append(float(np.median(clipped[inside])))
    return peaks[0], peaks[1]


def _best_so_far(excess: FloatArray) -> FloatArray:
    """Return the largest sum of an interval of rows that ends at or before each row, (M, L)."""
    ending, best = np.full(excess.shape[1], -np.inf), np.full(excess.shape[1], -np.inf)
    largest = np.empty_like(excess)
    for i, row in enumerate(excess):
        ending = np.maximum(ending, 0) + row
        best = np.maximum(best, ending)
        largest[i] = best
    return largest


def _best_interval(excess: FloatArray) -> tuple[int, int]:
    """Return the start and the end, exclusive, of the interval with the largest sum of (M,) values."""
    total = np.concatenate([[0.0], np.cumsum(excess)])
    lowest = np.minimum.accumulate(total)
    end = int(np.argmax(total[1:] - lowest[:-1])) + 1
    return int(np.argmin(total[:end])), end
