"""The statistics of a comparison: each method over its seeds, and compared with a reference method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np

from mgap_cli.comparison.cell_result import RULE_PREFIX, CellResult
from mgap_cli.comparison.tuning import Tuning
from mgap_cli.evaluation.seeds import Spread
from mgap_cli.stats.intervals import Interval
from mgap_cli.stats.multiple_testing import holm
from mgap_cli.stats.paired import mcnemar, sign_flip, smallest_p

LEVEL = 0.05  # of every test here
POWER = 0.8
GAP_METRIC = "gap.mean_absolute"  # of each sample's two modalities or more, between 0 and 1
DRAWS = 10_000  # resamples of a bootstrap


@dataclass(frozen=True)
class Against:
    """A method compared with the reference on one store: the difference over the seeds of both.

    p_seeds: exact paired permutation test over seeds. p_samples: McNemar's test on the test samples; with
    several seeds, twice the mean of their p-values, which is valid for dependent p-values too (Rüschendorf,
    1982; Vovk and Wang, 2020). p_samples is None if a record lacks the samples or the metric is not the
    head's accuracy. The `adjusted` values are after Holm's correction over the whole table. better:
    probability of improvement, P(method > reference) over all pairs of their seeds; a tie counts half
    (Agarwal et al., 2021).
    detectable: the difference of accuracies that McNemar's test finds with power 0.8.
    """

    reference: str
    seeds: tuple[int, ...]
    difference: Spread
    p_seeds: float
    p_samples: float | None
    better: float
    detectable: float | None
    adjusted_seeds: float = 1.0
    adjusted_samples: float | None = None

    @property
    def smallest_p(self) -> float:
        return smallest_p(len(self.seeds))

    @property
    def real(self) -> bool:
        """Whether the corrected test over seeds finds a difference."""
        return self.adjusted_seeds < LEVEL


@dataclass(frozen=True)
class Row:
    """A method on a store. values: the metric by seed. interval: bootstrap over seeds, None for one seed.

    cost: training time relative to that of the method `joint`, None if `joint` is not in the plan. others:
    mean of the same metric for each of the other heads.
    """

    store: str
    method: str
    values: Mapping[int, float]
    spread: Spread
    interval: Interval | None
    val: float | None
    seconds: float
    cost: float | None = None
    others: Mapping[str, float] = field(default_factory=dict)
    against: Against | None = None


@dataclass(frozen=True)
class Ranks:
    """Methods over three or more stores.

    average: mean rank of each method over the stores; 1 is best, equal methods share their rank. friedman_p:
    p-value of the hypothesis that all methods are equal (Friedman, 1937). critical: two average ranks that
    differ by less cannot be told apart (Nemenyi's test; Demšar, 2006).
    """

    average: Mapping[str, float]
    stores: int
    friedman_p: float
    critical: float


@dataclass(frozen=True)
class ComparisonTable:
    """The statistics of all finished cells for one metric. tunings: the tuning of their settings, if any."""

    metric: str
    reference: str
    rows: tuple[Row, ...]
    ranks: Ranks | None
    tunings: tuple[Tuning, ...] = ()

    @property
    def in_percent(self) -> bool:
        """Whether the metric is a share, which tables and figures show as a percentage."""
        return self.metric != GAP_METRIC

    @property
    def tests(self) -> int:
        """Number of differences in Holm's correction."""
        return sum(row.against is not None for row in self.rows)


def compare_methods(
    results: Sequence[CellResult], metric: str, reference: str, cost_unit: str
) -> ComparisonTable:
    """Return the table of finished cells. Stores and methods keep the order in which they first occur."""
    grouped: dict[tuple[str, str], dict[int, CellResult]] = {}
    for result in results:
        if result.state == "done" and result.figure(metric) is not None:
            key = (result.cell.store, result.cell.method)
            grouped.setdefault(key, {})[result.cell.seed] = result
    rows = []
    for (store, method), by_seed in grouped.items():
        base = grouped.get((store, reference))
        against = _against(by_seed, base, metric, reference) if base and method != reference else None
        rows.append(_row(store, method, by_seed, metric, grouped.get((store, cost_unit)), against))
    return ComparisonTable(metric, reference, tuple(_corrected(rows)), ranks(rows, metric))


def bootstrap_interval(values: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Return the percentile bootstrap interval of the mean; None for one value.

    With up to five values, all n^n resamples are used; with more, 10,000 random ones.
    """
    n = len(values)
    if n < 2:
        return None
    given = np.asarray(values, dtype=np.float64)
    if n <= 5:
        draws = np.array(list(product(range(n), repeat=n)))
    else:
        draws = np.random.default_rng(0).integers(n, size=(DRAWS, n))
    tail = (1 - confidence) / 2
    low, high = np.quantile(given[draws].mean(axis=1), [tail, 1 - tail])
    return Interval(float(low), float(high))


def probability_of_improvement(a: Sequence[float], b: Sequence[float]) -> float:
    """Return P(b > a) over all pairs of a value of a and one of b; a tie counts half."""
    difference = np.subtract.outer(np.asarray(b), np.asarray(a))
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def detectable_difference(n: int, discordant: float) -> float:
    """Return the smallest difference of accuracies that McNemar's test finds: power 0.8, level 0.05.

    n: number of samples. discordant: the share of samples on which exactly one of the two classifiers is
    right. The result is the difference d that solves z_a sqrt(q) + z_b sqrt(q - d^2) = d sqrt(n) with
    q = discordant (Connor, 1987); it is at most q.
    """
    from scipy.special import ndtri

    za, zb = float(ndtri(1 - LEVEL / 2)), float(ndtri(POWER))
    low, high = 0.0, discordant
    for _ in range(60):  # the left side falls and the right side rises in d
        d = (low + high) / 2
        if za * math.sqrt(discordant) + zb * math.sqrt(discordant - d**2) > d * math.sqrt(n):
            low = d
        else:
            high = d
    return high


def ranks(rows: Sequence[Row], metric: str) -> Ranks | None:
    """Return the average ranks over the stores, for the methods that every store has.

    None for fewer than three stores or methods.
    """
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    means: dict[str, dict[str, float]] = {}
    for row in rows:
        means.setdefault(row.method, {})[row.store] = row.spread.mean
    stores = list(dict.fromkeys(row.store for row in rows))
    methods = [method for method, by_store in means.items() if len(by_store) == len(stores)]
    n, k = len(stores), len(methods)
    if n < 3 or k < 3:
        return None
    values = np.array([[means[method][store] for method in methods] for store in stores])
    placed = rankdata(values if smaller_is_better(metric) else -values, axis=1)
    tied = bool(np.all(values == values[:, :1]))
    friedman = 1.0 if tied else float(friedmanchisquare(*values.T).pvalue)
    q = float(studentized_range.ppf(1 - LEVEL, k, np.inf)) / math.sqrt(2)
    critical = q * math.sqrt(k * (k + 1) / (6 * n))
    return Ranks(dict(zip(methods, map(float, placed.mean(axis=0)), strict=True)), n, friedman, critical)


def smaller_is_better(metric: str) -> bool:
    """Return whether a smaller value of the metric is better, as for the calibration error and the gap."""
    return metric.endswith(".ece") or metric == GAP_METRIC


def seeds_needed(tests: int) -> int:
    """Return the smallest number of seeds with which a difference can pass the corrected test."""
    return next(n for n in range(2, 64) if max(tests, 1) * 2.0 ** (1 - n) < LEVEL)


def _row(
    store: str,
    method: str,
    by_seed: Mapping[int, CellResult],
    metric: str,
    unit: Mapping[int, CellResult] | None,
    against: Against | None,
) -> Row:
    values = _values(by_seed, metric)
    val = [value for r in by_seed.values() if (value := r.figure(metric, "val")) is not None]
    seconds = float(np.mean([r.seconds for r in by_seed.values()]))
    base = float(np.mean([r.seconds for r in unit.values()])) if unit else 0.0
    return Row(
        store,
        method,
        values,
        Spread.of(list(values.values())),
        bootstrap_interval(list(values.values())),
        float(np.mean(val)) if val else None,
        seconds,
        seconds / base if base > 0 else None,
        _other_heads(list(by_seed.values()), metric),
        against,
    )


def _values(cells: Mapping[int, CellResult], metric: str) -> dict[int, float]:
    """Return the metric on the test set by seed, for the cells that have it."""
    return {seed: value for seed, r in cells.items() if (value := r.figure(metric)) is not None}


def _other_heads(results: Sequence[CellResult], metric: str) -> dict[str, float]:
    """Return the mean of the metric for each other head that all cells have."""
    head, _, figure = metric.rpartition(".")
    figures = [r.figures["test"] for r in results]
    names = [
        name
        for name in figures[0]
        if name.endswith(f".{figure}") and name != metric and not name.startswith(RULE_PREFIX)
    ]
    return {
        name.rpartition(".")[0]: float(np.mean([values[name] for values in figures]))
        for name in names
        if head != "gap" and all(name in values for values in figures)
    }


def _against(
    by_seed: Mapping[int, CellResult], base: Mapping[int, CellResult], metric: str, reference: str
) -> Against | None:
    seeds = [seed for seed in base if seed in by_seed]
    if not seeds:
        return None
    ours, theirs = (list(_values({s: cells[s] for s in seeds}, metric).values()) for cells in (by_seed, base))
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    pairs = [(by_seed[seed], base[seed]) for seed in seeds]
    p_samples, detectable = _on_samples(pairs, metric)
    better = probability_of_improvement(theirs, ours)
    if smaller_is_better(metric):
        better = 1 - better
    spread = Spread.of(differences)
    return Against(reference, tuple(seeds), spread, sign_flip(differences), p_samples, better, detectable)


def _on_samples(
    pairs: Sequence[tuple[CellResult, CellResult]], metric: str
) -> tuple[float | None, float | None]:
    p_values, discordant, n = [], [], 0
    for a, b in pairs:
        ours, theirs = a.correct_by(metric), b.correct_by(metric)
        if not ours or len(ours) != len(theirs):
            return None, None
        first, second = (np.frombuffer(c.encode(), np.uint8) == ord("1") for c in (ours, theirs))
        p_values.append(mcnemar(first, second).p_value)
        discordant.append(float(np.mean(first != second)))
        n = len(first)
    if n == 0:
        return None, None
    p = p_values[0] if len(p_values) == 1 else min(1.0, 2 * float(np.mean(p_values)))
    return p, detectable_difference(n, float(np.mean(discordant)))


def _corrected(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with Holm's correction over all of them, separately for each kind of test."""
    tested = [row.against for row in rows if row.against]
    seeds = iter(holm([against.p_seeds for against in tested]))
    samples = iter(holm([a.p_samples for a in tested if a.p_samples is not None]))
    corrected = []
    for row in rows:
        if row.against:
            on_samples = next(samples) if row.against.p_samples is not None else None
            against = replace(row.against, adjusted_seeds=next(seeds), adjusted_samples=on_samples)
            row = replace(row, against=against)
        corrected.append(row)
    return corrected
