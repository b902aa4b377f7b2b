"""The statistics of a comparison, computed in another way."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from mgap_cli.comparison.cell_result import CellResult
from mgap_cli.comparison.conclusion import conclusion
from mgap_cli.comparison.plan import Cell
from mgap_cli.comparison.statistics import (
    bootstrap_interval,
    compare_methods,
    detectable_difference,
    probability_of_improvement,
    seeds_needed,
)


def result(
    store: str, method: str, seed: int, accuracy: float, seconds: float = 10.0, n: int = 200
) -> CellResult:
    """A cell in which the first share `accuracy` of the n samples is right."""
    right = round(accuracy * n)
    figures = {
        "test": {"fused.accuracy": right / n, "fused.ece": 1 - right / n},
        "val": {"fused.accuracy": 0.5},
    }
    correct = "1" * right + "0" * (n - right)
    return CellResult(
        Cell(store, method, seed), "done", seconds, "cpu", 3, figures, "fused", {"fused": correct}
    )


def cells(store: str, method: str, accuracies: list[float], seconds: float = 10.0) -> list[CellResult]:
    return [result(store, method, seed, value, seconds) for seed, value in enumerate(accuracies)]


BASE = [0.60, 0.62, 0.58, 0.61, 0.60, 0.59, 0.63, 0.60]


def table(*groups: list[CellResult], metric: str = "fused.accuracy"):
    return compare_methods([cell for group in groups for cell in group], metric, "joint-heads", "joint")


def test_a_method_that_is_better_in_every_seed_differs_from_the_reference():
    better = [value + 0.1 for value in BASE]
    compared = table(
        cells("a", "joint-heads", BASE), cells("a", "agm", better), cells("a", "joint", BASE, 5.0)
    )
    agm = next(row for row in compared.rows if row.method == "agm")
    joint = next(row for row in compared.rows if row.method == "joint")
    assert agm.cost == 2.0 and joint.cost == 1.0
    assert agm.against.p_seeds == 2 / 2**8 and agm.against.adjusted_seeds == 2 * 2 / 2**8
    assert agm.against.real and not joint.against.real
    assert joint.against.p_seeds == 1.0 and joint.against.better == pytest.approx(0.5)
    assert conclusion(compared) == [
        "a: compared with joint-heads, agm (by 10.0 points, corrected p 0.016) is better; "
        "1 other cannot be told apart from it."
    ]


def test_a_smaller_error_is_better():
    compared = table(
        cells("a", "joint-heads", BASE), cells("a", "agm", [v + 0.1 for v in BASE]), metric="fused.ece"
    )
    agm = next(row for row in compared.rows if row.method == "agm")
    assert agm.against.better == 1.0 and agm.against.p_samples is None
    assert "agm (by 10.0 points, corrected p 0.008) is better" in conclusion(compared)[0]


def test_too_few_seeds_are_reported():
    compared = table(cells("a", "joint-heads", BASE[:3]), cells("a", "agm", [v + 0.1 for v in BASE[:3]]))
    assert conclusion(compared) == [
        "a: the other method cannot be told apart from joint-heads by fused.accuracy.",
        "3 seeds cannot show a difference between methods at level 0.05 after correction for 1 test, however "
        "large it is; 6 seeds can.",
    ]


def test_without_the_reference_nothing_is_tested():
    worse = [value - 0.1 for value in BASE]
    assert conclusion(table(cells("a", "agm", BASE), cells("a", "joint", worse))) == [
        "a: agm has the best mean fused.accuracy of 2 methods; nothing is tested, since joint-heads is not "
        "among them."
    ]
    assert conclusion(table(cells("a", "agm", BASE))) == [
        "a: agm is the only method with a result; nothing is tested, since joint-heads has none."
    ]


@pytest.mark.parametrize("tests", [1, 3, 10])
def test_seeds_needed_is_the_first_number_that_can_pass(tests):
    n = seeds_needed(tests)
    assert tests * 2 / 2**n < 0.05 <= tests * 2 / 2 ** (n - 1)


def test_only_seeds_of_both_are_paired_and_failures_left_out():
    failed = CellResult(Cell("a", "agm", 1), "failed", error="killed by SIGKILL")
    compared = table(cells("a", "joint-heads", BASE[:3]), [result("a", "agm", 0, 0.7), failed])
    agm = next(row for row in compared.rows if row.method == "agm")
    assert list(agm.values) == [0] and agm.against.seeds == (0,) and agm.interval is None


def test_the_samples_of_several_seeds_give_a_valid_p():
    compared = table(cells("a", "joint-heads", [0.5, 0.5]), cells("a", "agm", [0.56, 0.5]))
    agm = next(row for row in compared.rows if row.method == "agm")
    one = stats.binomtest(0, 12, 0.5).pvalue  # seed 0: 12 samples that only agm gets right; seed 1: none
    assert agm.against.p_samples == pytest.approx(min(1.0, 2 * (one + 1.0) / 2))


def test_the_bootstrap_of_few_values_looks_at_every_resample():
    values = [0.2, 0.5, 0.9]
    means = sorted(sum(draw) / 3 for draw in product(values, repeat=3))
    interval = bootstrap_interval(values)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
    assert bootstrap_interval([0.3]) is None


def test_probability_of_improvement_is_that_of_mann_and_whitney():
    draw = np.random.default_rng(0)
    a, b = draw.integers(0, 6, 7) / 6, draw.integers(0, 6, 9) / 6
    expected = stats.mannwhitneyu(b, a).statistic / (len(a) * len(b))
    assert probability_of_improvement(list(a), list(b)) == pytest.approx(expected)


def test_the_detectable_difference_has_power_of_four_fifths():
    n, discordant = 744, 0.2
    d = detectable_difference(n, discordant)
    draw = np.random.default_rng(1)
    shares = [(discordant + d) / 2, (discordant - d) / 2, 1 - discordant]
    only_a, only_b, _ = draw.multinomial(n, shares, size=4000).T
    p = stats.chi2.sf((only_a - only_b) ** 2 / (only_a + only_b), 1)
    assert np.mean(p < 0.05) == pytest.approx(0.8, abs=0.03)


def test_ranks_over_stores_are_friedmans():
    draw = np.random.default_rng(2)
    means = draw.uniform(0.4, 0.8, size=(4, 3))
    names = ["joint-heads", "agm", "joint"]
    compared = table(
        *(cells(f"s{i}", name, [float(means[i, j])]) for i in range(4) for j, name in enumerate(names))
    )
    placed = stats.rankdata(-np.round(means * 200), axis=1).mean(axis=0)
    assert [compared.ranks.average[name] for name in names] == pytest.approx(placed)
    assert compared.ranks.friedman_p == pytest.approx(
        stats.friedmanchisquare(*np.round(means * 200).T).pvalue
    )
    q = 2.343  # Demšar (2006), table 5: three classifiers, level 0.05
    assert compared.ranks.critical == pytest.approx(q * math.sqrt(3 * 4 / (6 * 4)), rel=1e-3)


def test_a_network_of_one_modality_is_decided_by_its_only_head():
    figures = {"test": {"audio.accuracy": 0.5, "audio.ece": 0.1}, "val": {"audio.accuracy": 0.4}}
    one = CellResult(
        Cell("a", "unimodal", 0), "done", 5.0, "cpu", 3, figures, "audio", {"audio": "1" * 100 + "0" * 100}
    )
    compared = table(cells("a", "joint-heads", [0.6]), [one])
    row = next(row for row in compared.rows if row.method == "unimodal")
    assert (row.spread.mean, row.val, row.others) == (0.5, 0.4, {"audio": 0.5})
    assert row.against.difference.mean == pytest.approx(-0.1) and row.against.p_samples is not None


def test_a_cell_has_its_number_of_test_samples():
    assert result("a", "joint", 0, 0.5, n=180).test_samples == 180
    assert CellResult(Cell("a", "joint", 0), "failed", error="killed by SIGKILL").test_samples == 0


def test_two_stores_have_no_ranks():
    compared = table(
        *(cells(f"s{i}", name, [0.5]) for i in range(2) for name in ("joint-heads", "agm", "joint"))
    )
    assert compared.ranks is None
