"""Does an analysis find the samples that are known to be imbalanced?

Three detectors rank the samples: the posterior of imbalance, |gap|, and the fused head's cross-entropy, which
is the common detector of noisy samples. The posterior of an `absolute` mixture never falls as |gap| grows, so
the first two give the same ranking except for ties. What the mixture adds to |gap| is the border between
balanced and imbalanced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mgap_cli.config import AnalysisConfig
from mgap_cli.gap.columns import values_of
from mgap_cli.gap.mixture import GapFit
from mgap_cli.stats.arrays import BoolArray, FloatArray
from mgap_cli.stats.intervals import Interval

# Values of a column of truth that mean a balanced sample; a sample without a value counts as one.
BALANCED_WORDS = frozenset({"", "none", "no", "false", "0", "balanced", "intact"})


@dataclass(frozen=True)
class Detector:
    """How well a score ranks the truly imbalanced samples first.

    roc_auc: the probability that an imbalanced sample scores higher than a balanced one; ties count half.
    average_precision: mean precision over recall, without interpolation; a random order gives the share of
    imbalanced samples. ahead: its ROC-AUC minus the posterior's; None for the posterior itself.
    """

    name: str
    roc_auc: float
    roc_auc_interval: Interval
    average_precision: float
    average_precision_interval: Interval
    ahead: float | None = None
    ahead_interval: Interval | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "name": self.name,
            "roc_auc": self.roc_auc,
            "roc_auc_interval": self.roc_auc_interval.to_list(),
            "average_precision": self.average_precision,
            "average_precision_interval": self.average_precision_interval.to_list(),
            "roc_auc_minus_posterior": self.ahead,
            "roc_auc_minus_posterior_interval": self.ahead_interval and self.ahead_interval.to_list(),
        }


@dataclass(frozen=True)
class Identification:
    """Detectors over n samples, of which `imbalanced` are truly imbalanced according to a column.

    called: number of samples whose posterior is at least one half. correct: how many of these are truly
    imbalanced. named: number of samples whose column names the degraded modality. right: in how many of these
    the other modality leads. Both are 0 if the column names no modality.
    """

    column: str
    n: int
    imbalanced: int
    called: int
    correct: int
    named: int
    right: int
    detectors: list[Detector]
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "column": self.column,
            "n": self.n,
            "imbalanced": self.imbalanced,
            "called_imbalanced": self.called,
            "of_these_right": self.correct,
            "modality_named": self.named,
            "other_modality_leads": self.right,
            "confidence": self.confidence,
            "detectors": [d.to_dict() for d in self.detectors],
        }


def identify(fit: GapFit, column: str, chosen: BoolArray, config: AnalysisConfig) -> Identification | None:
    """Compare the fit with the truth in a column, among the (N,) `chosen` samples.

    A sample is imbalanced in truth unless its value is empty or one of `BALANCED_WORDS`. Intervals are
    percentile bootstrap intervals over samples. None if the column calls all samples balanced, or all
    imbalanced. Raises UsageError for a column that does not exist.
    """
    rows = np.flatnonzero(chosen)
    values = values_of(fit.scores, column)
    defects = [values[i].strip().lower() for i in rows.tolist()]
    truth = np.array([defect not in BALANCED_WORDS for defect in defects])
    if truth.all() or not truth.any():
        return None
    imbalanced = fit.imbalanced[rows]
    scores = {"posterior": fit.posterior[rows], "|gap|": np.abs(fit.scores.gap[rows])}
    if fit.scores.fused_loss is not None:
        scores["fused loss"] = fit.scores.fused_loss[rows]
    lags = {name.lower(): fit.scores.lags(name)[rows] for name in fit.scores.modalities}
    right = [bool(lags[defect][i]) for i, defect in enumerate(defects) if defect in lags]
    return Identification(
        column=column,
        n=len(truth),
        imbalanced=int(truth.sum()),
        called=int(imbalanced.sum()),
        correct=int((imbalanced & truth).sum()),
        named=len(right),
        right=sum(right),
        detectors=_detectors(scores, truth, config),
        confidence=config.confidence,
    )


def _detectors(scores: dict[str, FloatArray], truth: BoolArray, config: AnalysisConfig) -> list[Detector]:
    """Return a detector for each score; the others are compared with the first one."""
    n, generator = len(truth), np.random.default_rng(config.seed)
    ranked = {name: np.unique(-score, return_inverse=True)[1] for name, score in scores.items()}
    samples = [np.ones(n)]  # how often each sample counts: once in the first row, then as resampled
    while len(samples) <= config.resamples:
        times = np.bincount(generator.integers(0, n, n), minlength=n)
        if 0 < times[truth].sum() < n:  # otherwise there is nothing to rank
            samples.append(times.astype(np.float64))
    drawn = {
        name: np.array([_areas(rank, truth, times) for times in samples]) for name, rank in ranked.items()
    }
    tail = 50 * (1 - config.confidence)

    def interval(values: FloatArray) -> Interval:
        low, high = np.percentile(values[1:], [tail, 100 - tail], method="weibull")
        return Interval(float(low), float(high))

    first_drawn = next(iter(drawn.values()))
    detectors: list[Detector] = []
    for name, (areas, precisions) in ((name, values.T) for name, values in drawn.items()):
        ahead = areas - first_drawn[:, 0]
        rival = bool(detectors)
        detectors.append(
            Detector(
                name,
                float(areas[0]),
                interval(areas),
                float(precisions[0]),
                interval(precisions),
                float(ahead[0]) if rival else None,
                interval(ahead) if rival else None,
            )
        )
    return detectors


def _areas(rank: Any, truth: BoolArray, times: FloatArray) -> tuple[float, float]:
    """Return ROC-AUC and average precision of samples (n,), each counted `times` times.

    rank: (n,) ranks of their scores, the highest first; equal scores have equal ranks. ROC-AUC is Mann and
    Whitney's U over the number of pairs; average precision is sum_k (R_k - R_k-1) P_k (as scikit-learn
    defines it).
    """
    hits = np.bincount(rank, weights=times * truth)
    misses = np.bincount(rank, weights=times * ~truth)
    positives, negatives = hits.sum(), misses.sum()
    above, called = np.cumsum(hits), np.cumsum(hits + misses)
    area = (misses * (above - hits / 2)).sum() / (positives * negatives)
    precision = np.divide(above, called, out=np.zeros_like(above), where=called > 0)
    return float(area), float((hits * precision).sum() / positives)
