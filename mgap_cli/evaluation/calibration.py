"""The reliability diagram and its summary: are predictions of confidence 80 % right 80 % of the time?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mgap_cli.stats.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class Reliability:
    """M equal bins of confidence, ((m - 1) / M, m / M]; tuples have one value per bin, None without samples.

    Confidence is the probability of the predicted class.
    """

    counts: tuple[int, ...]
    confidence: tuple[float | None, ...]  # mean in the bin
    accuracy: tuple[float | None, ...]

    @property
    def n(self) -> int:
        return sum(self.counts)

    @property
    def ece(self) -> float:
        """Expected calibration error, sum_m n_m / N |acc_m - conf_m| (Guo et al., ICML 2017, equation 3).

        It is in [0, 1]. With few samples per bin it is larger than with many, for the same model.
        """
        return sum(n * abs(a - c) for n, c, a in self._filled()) / self.n

    @property
    def mean_confidence(self) -> float:
        """Return the mean confidence; above the accuracy, the model is overconfident."""
        return sum(n * c for n, c, _ in self._filled()) / self.n

    def _filled(self) -> list[tuple[int, float, float]]:
        rows = zip(self.counts, self.confidence, self.accuracy, strict=True)
        return [(n, c, a) for n, c, a in rows if c is not None and a is not None]

    def to_dict(self) -> dict[str, Any]:
        return {
            "counts": list(self.counts),
            "confidence": list(self.confidence),
            "accuracy": list(self.accuracy),
            "mean_confidence": self.mean_confidence,
        }


def confidence_bins(probabilities: FloatArray, bins: int) -> tuple[FloatArray, IntArray]:
    """Return confidences (N,) and the bin of each (N,), from class probabilities (N, C)."""
    confidence = probabilities.max(axis=1)
    return confidence, np.clip(np.ceil(confidence * bins) - 1, 0, bins - 1).astype(np.int64)


def reliability(labels: IntArray, probabilities: FloatArray, bins: int) -> Reliability:
    """Return the reliability diagram of labels (N,) and class probabilities (N, C)."""
    confidence, bin_of = confidence_bins(probabilities, bins)
    correct = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    counts = np.bincount(bin_of, minlength=bins)
    sums = (np.bincount(bin_of, weights=values, minlength=bins) for values in (confidence, correct))
    means = [[float(s / n) if n else None for s, n in zip(total, counts, strict=True)] for total in sums]
    return Reliability(tuple(counts.tolist()), tuple(means[0]), tuple(means[1]))
