"""Other columns of the samples: their values, and the groups of samples that they make."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from mgap_cli.errors import UsageError, did_you_mean
from mgap_cli.gap.scores import Scores
from mgap_cli.stats.arrays import FloatArray, IntArray

CLASS = "class"  # another name of the column `label`
FEW_NUMBERS = 12  # more distinct numbers than this are put into quantile bins
RARE = 0.2  # from this share of distinct whole numbers on, they are measurements
TOO_MANY = 10_000  # a column with more values than this, such as an id, makes no groups
NOTHING = "(none)"


def grouping(scores: Scores, column: str, rows: IntArray, bins: int) -> tuple[Sequence[str], IntArray, bool]:
    """Return a column's groups of `rows`: their names, (len(rows),) indices, and whether they are bins.

    See `breakdown` for the columns that are put into bins and those that are refused.
    """
    names, index = _coded(scores, column)
    binned = None if column in (CLASS, "label", "group") else _quantile_bins(names, index[rows], bins)
    if binned:
        names, bin_of = binned
        index = bin_of[index]
    index = index[rows]
    present = len(np.unique(index))
    if present > TOO_MANY:
        raise UsageError(f"--by {column!r}: {present} different values make no groups.")
    return [name or NOTHING for name in names], index, bool(binned)


def values_of(scores: Scores, column: str) -> Sequence[str]:
    """Return the N values of a column; UsageError, naming the columns that exist, if it does not exist."""
    columns = scores.columns
    if column in columns:
        return columns[column]
    if column in (CLASS, "label"):
        return [scores.classes[c] for c in scores.labels]
    if column == "id":
        return scores.ids
    known = [CLASS, *columns]
    hint = did_you_mean(column, known, f"Columns: {', '.join(map(repr, known))}.", "{!r}")
    raise UsageError(f"no column {column!r} in clips.csv or the scores' file.", hint)


def _coded(scores: Scores, column: str) -> tuple[list[str], IntArray]:
    """Return a column's distinct values, and (N,) indices into them."""
    if column in (CLASS, "label") and column not in scores.columns:
        return list(scores.classes), scores.labels
    position: dict[str, int] = {}
    values = values_of(scores, column)
    numbers = (position.setdefault(value, len(position)) for value in values)
    index = np.fromiter(numbers, np.int64, len(values))
    return list(position), index


def _quantile_bins(names: list[str], index: IntArray, bins: int) -> tuple[list[str], IntArray] | None:
    """Return names of bins, and the bin of each of `names`, if these are measurements.

    index: (n,) position in `names` for each sample. The last bin has no name; it is for an empty value.
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
    bin_of = np.clip(np.searchsorted(borders, of_name, side="right") - 1, 0, last)
    bin_of[np.isnan(of_name)] = last + 1
    labels = [
        f"{low:.4g} to {'' if i == last else 'under '}{high:.4g}"
        for i, (low, high) in enumerate(pairwise(borders))
    ]
    return [*labels, ""], bin_of.astype(np.int64)


def _as_numbers(texts: list[str]) -> FloatArray | None:
    """Return texts as finite numbers, or None unless all of them are finite numbers."""
    try:
        numbers = np.array(list(map(float, texts)))
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None
