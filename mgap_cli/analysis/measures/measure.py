"""What a measure of imbalance says: a figure for each modality, how they compare, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mgap_cli.config import EvaluateConfig
from mgap_cli.evaluation.metrics import bootstrap_mean
from mgap_cli.stats.arrays import FloatArray
from mgap_cli.stats.intervals import Interval

Statistic = Literal["difference", "ratio"]


@dataclass(frozen=True)
class Measure:
    """One measure of a pair of modalities, the first and the second.

    first, second: the figure of each, None where it does not exist. value: first - second or
    first / second, by `statistic`; interval: of value. None without two units to tell its spread by.
    n: `units` that it was measured on. higher_leads: whether the larger figure is that of the modality that
    leads. percent: the figures are shares, shown as percentages.
    """

    key: str
    name: str
    first: float | None
    second: float | None
    statistic: Statistic
    value: float | None
    interval: Interval | None
    n: int
    source: str
    units: Literal["samples", "batches"] = "samples"
    higher_leads: bool = True
    percent: bool = False

    @property
    def leader(self) -> Literal["first", "second"] | None:
        """The modality that leads; None where the interval holds equality, or there is none."""
        if self.interval is None:
            return None
        equal = 1.0 if self.statistic == "ratio" else 0.0
        if self.interval.low <= equal <= self.interval.high:
            return None
        return "first" if (self.interval.low > equal) == self.higher_leads else "second"

    def to_dict(self, modalities: tuple[str, str]) -> dict[str, Any]:
        """Return plain values; the figures go by the modalities' names."""
        names = {"first": modalities[0], "second": modalities[1]}
        return {
            "measure": self.key,
            "name": self.name,
            "values": {modalities[0]: self.first, modalities[1]: self.second},
            "statistic": f"{modalities[0]} {'/' if self.statistic == 'ratio' else '-'} {modalities[1]}",
            "value": self.value,
            "interval": self.interval.to_list() if self.interval else None,
            "leads": names[self.leader] if self.leader else None,
            "n": self.n,
            "units": self.units,
            "source": self.source,
        }


def difference_of_means(
    first: FloatArray, second: FloatArray, config: EvaluateConfig
) -> tuple[float, float, float, Interval]:
    """Return the means of (N,) paired values, their difference and its percentile bootstrap interval."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    return float(a.mean()), float(b.mean()), float(a.mean() - b.mean()), bootstrap_mean(a - b, config)
