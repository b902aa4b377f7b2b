"""The share of imbalanced samples in each class, group or range of durations, or by any other column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mgap_cli.config import AnalysisConfig
from mgap_cli.errors import UsageError, did_you_mean
from mgap_cli.gap.columns import CLASS, grouping, values_of
from mgap_cli.gap.mixture import GapFit
from mgap_cli.stats.arrays import BoolArray, FloatArray
from mgap_cli.stats.intervals import Interval, wilson_interval

USUAL = (CLASS, "group", "duration")  # the columns that are always examined, if they have values


@dataclass(frozen=True)
class Group:
    """The number of samples with one value of a column, and how many of them are imbalanced.

    interval: Wilson's interval of the imbalanced share. mean_gap: the mean |gap|. p: the mean true-class
    probability of each modality, in order. leads: the share of samples in which the first modality has the
    highest probability.
    """

    name: str
    n: int
    imbalanced: int
    interval: Interval
    mean_gap: float
    p: tuple[float, ...]
    leads: float

    @property
    def share(self) -> float:
        return self.imbalanced / self.n

    def to_dict(self) -> dict[str, Any]:
        return {
            "value": self.name,
            "n": self.n,
            "imbalanced": self.imbalanced,
            "share": self.share,
            "interval": self.interval.to_list(),
            "mean_absolute_gap": self.mean_gap,
            "mean_p": list(self.p),
            "first_leads": self.leads,
        }


@dataclass(frozen=True)
class Breakdown:
    """The groups of a column, the most imbalanced first; bins of numbers are in ascending order."""

    column: str
    groups: list[Group]
    binned: bool
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "column": self.column,
            "quantile_bins": self.binned,
            "confidence": self.confidence,
            "groups": [group.to_dict() for group in self.groups],
        }


def breakdown(fit: GapFit, column: str, chosen: BoolArray, config: AnalysisConfig) -> Breakdown:
    """Return the share of imbalanced samples by the values of a column, among the (N,) `chosen` samples.

    Measurements are put into quantile bins: these are numbers with more than a dozen values that have
    fractions or rarely repeat. Other numbers count as names, such as numbers of speakers. Samples without a
    value form a group. Raises UsageError for a column that does not exist, or has a value for nearly every
    sample.
    """
    rows = np.flatnonzero(chosen)
    names, index, binned = grouping(fit.scores, column, rows, config.bins)
    gap = fit.scores.gap[rows]
    size = len(names)
    counts = np.bincount(index, minlength=size)
    present = np.flatnonzero(counts)

    def total(values: Any) -> FloatArray:
        weights = np.asarray(values, dtype=np.float64)
        return np.asarray(np.bincount(index, weights=weights, minlength=size), dtype=np.float64)

    imbalanced, leads = total(fit.imbalanced[rows]), total(fit.scores.leads(fit.scores.modalities[0])[rows])
    mean_gap = total(np.abs(gap)) / np.maximum(counts, 1)
    means = [total(p[rows]) / np.maximum(counts, 1) for p in fit.scores.p.values()]
    groups = [
        Group(
            name=names[i],
            n=int(counts[i]),
            imbalanced=int(imbalanced[i]),
            interval=wilson_interval(int(imbalanced[i]), int(counts[i]), config.confidence),
            mean_gap=float(mean_gap[i]),
            p=tuple(float(mean[i]) for mean in means),
            leads=float(leads[i] / counts[i]),
        )
        for i in present.tolist()
    ]
    if not binned:
        groups.sort(key=lambda group: (-group.share, -group.n, group.name))
    return Breakdown(column, groups, binned, config.confidence)


def usual_columns(fit: GapFit) -> list[str]:
    """Return those of the columns class, group and duration that have several values."""
    columns = fit.scores.columns
    return [name for name in USUAL if name == CLASS or len(set(columns.get(name, ()))) > 1]


def where(fit: GapFit, conditions: Sequence[str]) -> BoolArray:
    """Return which samples meet every COLUMN=VALUE, (N,).

    Raises UsageError for a condition that is malformed, names no column, or leaves nothing.
    """
    chosen = np.ones(len(fit.scores), dtype=bool)
    for condition in conditions:
        column, equals, value = condition.partition("=")
        if not equals:
            raise UsageError(
                f"--where {condition!r}: it must be COLUMN=VALUE.",
                "Such as --where class=happy",
            )
        values = values_of(fit.scores, column.strip())
        match = np.fromiter((v == value.strip() for v in values), dtype=bool, count=len(values))
        if not match.any():
            some = ", ".join(map(repr, sorted(set(values))[:8]))
            hint = did_you_mean(value, set(values), f"Its values: {some}.", "{!r}")
            raise UsageError(f"--where {condition!r}: no sample has this value.", hint)
        chosen &= match
    if not chosen.any():
        raise UsageError(f"--where: no sample meets {' and '.join(map(repr, conditions))}.")
    return chosen
