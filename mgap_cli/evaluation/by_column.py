"""Accuracy by the values of a column of clips.csv, such as the speaker or the length of the clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mgap_cli.config import EvaluateConfig
from mgap_cli.gap.columns import grouping
from mgap_cli.gap.scores import Scores
from mgap_cli.stats.arrays import BoolArray
from mgap_cli.stats.intervals import Interval, wilson_interval


@dataclass(frozen=True)
class GroupAccuracy:
    """The number of samples with one value, and each head's accuracy on them with Wilson's interval."""

    value: str
    n: int
    accuracy: dict[str, float]
    interval: dict[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        heads = {
            head: {"accuracy": accuracy, "accuracy_interval": self.interval[head].to_list()}
            for head, accuracy in self.accuracy.items()
        }
        return {"value": self.value, "n": self.n, "heads": heads}


@dataclass(frozen=True)
class ByColumn:
    """The groups of a column, the least accurate first; bins of a numeric column in ascending order."""

    column: str
    binned: bool
    groups: list[GroupAccuracy]

    def to_dict(self) -> dict[str, Any]:
        groups = [group.to_dict() for group in self.groups]
        return {"column": self.column, "quantile_bins": self.binned, "groups": groups}


def by_column(
    scores: Scores, correct: dict[str, BoolArray], column: str, config: EvaluateConfig, bins: int
) -> ByColumn:
    """Return accuracies by the values of a column.

    correct: head to (N,), the main head first. bins: number of quantile bins of a numeric column. Raises
    UsageError for a column that does not exist or makes no groups.
    """
    names, index, binned = grouping(scores, column, np.arange(len(scores)), bins)
    counts = np.bincount(index, minlength=len(names))
    hits = {head: np.bincount(index[c], minlength=len(names)) for head, c in correct.items()}
    groups = [
        GroupAccuracy(
            names[i],
            int(counts[i]),
            {head: float(h[i] / counts[i]) for head, h in hits.items()},
            {head: wilson_interval(int(h[i]), int(counts[i]), config.confidence) for head, h in hits.items()},
        )
        for i in np.flatnonzero(counts).tolist()
    ]
    if not binned:
        main = next(iter(correct))
        groups.sort(key=lambda group: (group.accuracy[main], -group.n, group.value))
    return ByColumn(column, binned, groups)
