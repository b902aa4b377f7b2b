"""The result of a measure of imbalance: a figure per modality, their comparison and its interval."""

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

    first, second: the figure of each modality; None if it does not exist. value: first - second or first /
    second, according to `statistic`. interval: the interval of `value`; None with fewer than two units. n:
    number of `units` that were measured. higher_leads: whether the modality with the larger figure leads.
    percent: whether the figures are shares, shown as percentages.
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
        """Return the modality that leads; None if the interval contains equality, or without an interval."""
        if self.interval is None:
            return None
        equal = 1.0 if self.statistic == "ratio" else 0.0
        if self.interval.low <= equal <= self.interval.high:
            return None
        return "first" if (self.interval.low > equal) == self.higher_leads else "second"

    def to_dict(self, modalities: tuple[str, str]) -> dict[str, Any]:
        """Return plain values; the names of the modalities are the keys of the figures."""
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
    """Return the means of paired values (N,), their difference and its percentile bootstrap interval."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    return float(a.mean()), float(b.mean()), float(a.mean() - b.mean()), bootstrap_mean(a - b, config)
