"""Confidence intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mgap_cli.stats.arrays import FloatArray


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval."""

    low: float
    high: float

    def to_list(self) -> list[float]:
        return [self.low, self.high]


def wilson_interval(count: float, n: float, confidence: float) -> Interval:
    """Return Wilson's (1927) score interval of the share count / n, which holds for shares of 0 and 1 too.

    (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n). An effective sample size need not be
    a whole number. The formula is written out here, because importing scipy.stats takes longer than the
    diagnosis of 100,000 samples.
    """
    from scipy.special import ndtri

    if confidence >= 1:
        return Interval(0.0, 1.0)
    share, z = count / n, float(ndtri(0.5 + confidence / 2))
    centre, scale = share + z**2 / (2 * n), 1 + z**2 / n
    reach = z * np.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    low = 0.0 if count == 0 else (centre - reach) / scale
    high = 1.0 if count == n else (centre + reach) / scale
    return Interval(float(low), float(high))


def student_interval(values: FloatArray, confidence: float) -> Interval | None:
    """Return Student's t interval of the mean of (n,) values, for small n; None for n < 2."""
    from scipy.special import stdtrit

    n = len(values)
    if n < 2:
        return None
    reach = float(stdtrit(n - 1, 0.5 + confidence / 2)) * float(np.std(values, ddof=1)) / n**0.5
    return Interval(float(np.mean(values)) - reach, float(np.mean(values)) + reach)
