"""Who the imbalanced are: their share in each class, group, range of durations, or any other column."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from mgap_cli.config import AnalysisConfig
from mgap_cli.errors import UsageError
from mgap_cli.evaluation.metrics import Booleans, Floats, Integers, Interval, wilson_interval
from mgap_cli.gap.mixture import GapFit
from mgap_cli.gap.scores import Scores

CLASS = "class"  # names the labels, as `label` does
USUAL = (CLASS, "group", "duration")  # the columns that are looked at unasked, where there are values
FEW_NUMBERS = 12  # more distinct numbers than this are put into quantile bins
RARE = 0.2  # distinct whole numbers a sample from which they are measurements
TOO_MANY = 10_000  # values of a column that is no grouping: an id
NOTHING = "(none)"


@dataclass(frozen=True)
class Group:
    """The samples with one value of a column: how many, and how many of them are imbalanced.

    interval: Wilson's, of the share imbalanced. mean_gap: of |gap|. p: mean true-class probabilities
    of the two modalities. leads: share of samples in which the first has the higher one.
    """

    name: str
    n: int
    imbalanced: int
    interval: Interval
    mean_gap: float
    p: tuple[float, float]
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
    """A column's groups: the largest share of imbalanced first, or bins of numbers in their order."""

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


def breakdown(fit: GapFit, column: str, chosen: Booleans, config: AnalysisConfig) -> Breakdown:
    """Return the share of imbalanced by the values of a column, among the (N,) `chosen` samples.

    Measurements are put into quantile bins: numbers of more than a dozen values that have fractions, or
    hardly repeat. Other numbers are names, as speakers' are. Samples without a value form a group.
    Raises UsageError for a column that does not exist, or has a value for nearly every sample.
    """
    rows = np.flatnonzero(chosen)
    names, index, binned = grouping(fit.scores, column, rows, config.bins)
    gap = fit.scores.gap[rows]
    size = len(names)
    counts = np.bincount(index, minlength=size)
    held = np.flatnonzero(counts)

    def total(values: Any) -> Floats:
        weights = np.asarray(values, dtype=np.float64)
        return np.asarray(np.bincount(index, weights=weights, minlength=size), dtype=np.float64)

    imbalanced, leads = total(fit.imbalanced[rows]), total(gap > 0)
    mean_gap = total(np.abs(gap)) / np.maximum(counts, 1)
    first, second = (
        total(p[rows]) / np.maximum(counts, 1) for p in (fit.scores.p_audio, fit.scores.p_visual)
    )
    groups = [
        Group(
            name=names[i],
            n=int(counts[i]),
            imbalanced=int(imbalanced[i]),
            interval=wilson_interval(int(imbalanced[i]), int(counts[i]), config.confidence),
            mean_gap=float(mean_gap[i]),
            p=(float(first[i]), float(second[i])),
            leads=float(leads[i] / counts[i]),
        )
        for i in held.tolist()
    ]
    if not binned:
        groups.sort(key=lambda group: (-group.share, -group.n, group.name))
    return Breakdown(column, groups, binned, config.confidence)


def grouping(scores: Scores, column: str, rows: Integers, bins: int) -> tuple[Sequence[str], Integers, bool]:
    """Return the groups that a column makes of `rows`: their names, (len(rows),) indices, and whether binned.

    See `breakdown` for which columns are put into bins, and what is refused.
    """
    names, index = _coded(scores, column)
    binned = None if column in (CLASS, "label", "group") else _quantile_bins(names, index[rows], bins)
    if binned:
        names, place = binned
        index = place[index]
    index = index[rows]
    held = len(np.unique(index))
    if held > TOO_MANY:
        raise UsageError(f"--by {column!r}: {held} different values make no groups.")
    return [name or NOTHING for name in names], index, bool(binned)


def usual_columns(fit: GapFit) -> list[str]:
    """Return which of class, group and duration tell samples apart."""
    columns = fit.scores.columns
    return [name for name in USUAL if name == CLASS or len(set(columns.get(name, ()))) > 1]


def values_of(scores: Scores, column: str) -> Sequence[str]:
    """Return the N values of a column; UsageError, with what there is, if it does not exist."""
    columns = scores.columns
    if column in columns:
        return columns[column]
    if column in (CLASS, "label"):
        return [scores.classes[c] for c in scores.labels]
    if column == "id":
        return scores.ids
    known = [CLASS, *columns]
    close = difflib.get_close_matches(column, known, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else f"Columns: {', '.join(map(repr, known))}."
    raise UsageError(f"no column {column!r} in clips.csv or the scores' file.", hint)


def where(fit: GapFit, conditions: Sequence[str]) -> Booleans:
    """Return which samples meet every COLUMN=VALUE, (N,).

    Raises UsageError for a condition that is none, names no column, or leaves nothing.
    """
    chosen = np.ones(len(fit.scores), dtype=bool)
    for condition in conditions:
        column, equals, value = condition.partition("=")
        if not equals:
            raise UsageError(f"--where {condition!r}: expected COLUMN=VALUE.", "Such as --where class=happy")
        values = values_of(fit.scores, column.strip())
        match = np.fromiter((v == value.strip() for v in values), dtype=bool, count=len(values))
        if not match.any():
            close = difflib.get_close_matches(value, set(values), n=1)
            some = ", ".join(map(repr, sorted(set(values))[:8]))
            hint = f"Did you mean {close[0]!r}?" if close else f"Its values: {some}."
            raise UsageError(f"--where {condition!r}: no sample has this value.", hint)
        chosen &= match
    if not chosen.any():
        raise UsageError(f"--where: no sample meets {' and '.join(map(repr, conditions))}.")
    return chosen


def _coded(scores: Scores, column: str) -> tuple[list[str], Integers]:
    """Return a column's distinct values, and (N,) indices into them."""
    if column in (CLASS, "label") and column not in scores.columns:
        return list(scores.classes), scores.labels
    position: dict[str, int] = {}
    values = values_of(scores, column)
    numbers = (position.setdefault(value, len(position)) for value in values)
    index = np.fromiter(numbers, np.int64, len(values))
    return list(position), index


def _quantile_bins(names: list[str], index: Integers, bins: int) -> tuple[list[str], Integers] | None:
    """Return names of bins, and the bin of each of `names`, where these are measurements.

    index: (n,) which name each sample has. The last bin, without a name, is for an empty one.
    """
    numbers = _as_numbers([name for name in names if name])
    if numbers is None or len(numbers) <= FEW_NUMBERS:
        return None
    if len(numbers) < RARE * len(index) and (numbers == np.round(numbers)).all():
        return None
    of_name = np.full(len(names), np.nan)
    of_name[[bool(name) for name in names]] = numbers
    of_sample = of_name[index]
    with np.errstate(over="ignore", invalid="ignore"):  # the quantiles of huge numbers are not finite
        borders = np.unique(np.quantile(of_sample[~np.isnan(of_sample)], np.linspace(0, 1, bins + 1)))
    last = len(borders) - 2
    if last < 0 or not np.isfinite(borders).all():
        return None
    place = np.clip(np.searchsorted(borders, of_name, side="right") - 1, 0, last)
    place[np.isnan(of_name)] = last + 1
    labels = [
        f"{low:.4g} to {'' if i == last else 'under '}{high:.4g}"
        for i, (low, high) in enumerate(pairwise(borders))
    ]
    return [*labels, ""], place.astype(np.int64)


def _as_numbers(texts: list[str]) -> Floats | None:
    """Return texts as finite numbers, or None if one is none."""
    try:
        numbers = np.array(list(map(float, texts)))
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None
