"""The dip compared with its definition (as linear programs) and with published and simulated values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from mgap_cli.stats.dip import dip, dip_p_value

SAMPLES = {
    "uniform": lambda g, n: g.random(n),
    "normal": lambda g, n: g.normal(size=n),
    "two": lambda g, n: np.concatenate([g.normal(size=n // 2), g.normal(5, 1, n - n // 2)]),
    "three": lambda g, n: np.concatenate([g.normal(m, 0.3, n // 3) for m in (0, 2, 5)]),
    "ends": lambda g, n: g.beta(0.4, 0.4, n),
    "ties": lambda g, n: g.integers(0, 6, n).astype(float),
}


def by_definition(values: np.ndarray) -> float:
    """The smallest D over all unimodal G, with one linear program for each place of the mode.

    Unknowns: G just below and at each distinct value (they differ at the mode alone), and D.
    """
    x, counts = np.unique(values, return_counts=True)
    after = np.cumsum(counts) / counts.sum()
    before = after - counts / counts.sum()
    m = len(x)
    best = np.inf
    for mode in range(m):  # a mode between two values gives no smaller D
        rows, bounds = [], []

        def add(terms: dict[int, float], bound: float, d: float = 0.0) -> None:
            row = np.zeros(2 * m + 1)
            for i, factor in terms.items():
                row[i] += factor
            row[-1] = d
            rows.append(row)  # noqa: B023
            bounds.append(bound)  # noqa: B023

        for i in range(m):
            add({i: 1.0}, before[i], -1.0)  # G(x-) <= F(x-) + D
            add({i: -1.0}, -before[i], -1.0)
            add({m + i: 1.0}, after[i], -1.0)
            add({m + i: -1.0}, -after[i], -1.0)
            add({i: 1.0, m + i: -1.0}, 0.0)
            if i != mode:
                add({i: -1.0, m + i: 1.0}, 0.0)  # no jump but at the mode
        for i in range(m - 1):
            add({m + i: 1.0, i + 1: -1.0}, 0.0)
            if i + 2 >= m:
                continue
            left, right = 1 / (x[i + 1] - x[i]), 1 / (x[i + 2] - x[i + 1])
            # slope of (i, i+1) minus slope of (i+1, i+2)
            bend = {i + 1: left, m + i: -left, i + 2: -right, m + i + 1: right}
            if i + 2 <= mode:
                add(bend, 0.0)
            elif i >= mode:
                add({k: -v for k, v in bend.items()}, 0.0)
        cost = np.zeros(2 * m + 1)
        cost[-1] = 1
        solved = linprog(cost, A_ub=np.array(rows), b_ub=bounds, bounds=[(0, 1)] * (2 * m + 1))
        best = min(best, solved.fun)
    return float(best)


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("n", [6, 15])
def test_it_is_the_distance_to_the_nearest_unimodal_distribution(name, n):
    values = SAMPLES[name](np.random.default_rng(n), n)
    assert dip(values) == pytest.approx(max(by_definition(values), 1 / (2 * len(values))), abs=1e-7)


def test_known_values():
    # The sample (1, ..., n) has the smallest possible dip.
    assert dip(np.arange(50.0)) == pytest.approx(1 / 100)
    # Two equal atoms have the largest dip, 1/4.
    assert dip(np.repeat([0.0, 1.0], 1000)) == pytest.approx(0.25)
    assert dip(np.full(20, 0.3)) == pytest.approx(1 / 40)


@pytest.mark.parametrize("change", [lambda x: 3 * x + 1, lambda x: -x, lambda x: x[::-1]])
def test_it_does_not_depend_on_scale_side_or_order(change):
    values = SAMPLES["two"](np.random.default_rng(0), 200)
    assert dip(change(values)) == pytest.approx(dip(values), abs=1e-12)


def test_p_values_are_those_of_uniform_samples():
    generator = np.random.default_rng(1)
    p = [dip_p_value(dip(generator.random(200)), 200, 99, seed) for seed in range(60)]
    assert 0.3 < np.mean(p) < 0.7
    assert np.mean(np.array(p) < 0.2) < 0.4
    assert dip_p_value(dip(SAMPLES["two"](generator, 300)), 300, 99, 0) == 0.01


def test_large_samples_are_judged_by_the_limit():
    generator = np.random.default_rng(2)
    assert dip_p_value(dip(generator.random(50_000)), 50_000, 99, 0) > 0.05
    assert dip_p_value(dip(SAMPLES["two"](generator, 50_000)), 50_000, 99, 0) == 0.01
