"""The likeliest log-concave population, compared with a general optimiser and with its definition."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import LinearConstraint, minimize

from mgap_cli.stats import log_concave

SHAPES = {
    "bell": lambda g: g.normal(0.5, 0.1, 400),
    "decay": lambda g: g.exponential(0.1, 400),
    "two": lambda g: np.concatenate([g.normal(0.3, 0.05, 200), g.normal(0.7, 0.05, 200)]),
    "few": lambda g: g.random(7),
}


def counted(values: np.ndarray, bins: int) -> np.ndarray:
    return np.histogram(np.clip(values, 0, 1), bins, (0, 1))[0].astype(np.float64)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_optimum(shape):
    counts = counted(SHAPES[shape](np.random.default_rng(0)), 24)
    _, (optimum,) = log_concave.fit(counts[None])
    support = np.flatnonzero(counts)
    inner = counts[support[0] : support[-1] + 1]
    w, m = inner / inner.sum(), len(inner)
    bends = np.diff(np.eye(m), 2, axis=0)
    solved = minimize(
        lambda phi: np.exp(phi).sum() - w @ phi,
        np.full(m, -np.log(m)),
        jac=lambda phi: np.exp(phi) - w,
        hess=lambda phi: np.diag(np.exp(phi)),
        method="trust-constr",
        constraints=[LinearConstraint(bends, -np.inf, 0)],
        options={"gtol": 1e-9, "xtol": 1e-12, "maxiter": 3000},
    )
    expected = inner.sum() * (w @ (solved.x - np.log(np.exp(solved.x).sum())))
    assert optimum == pytest.approx(expected, abs=0.05)


def test_many_are_fitted_as_each_alone():
    generator = np.random.default_rng(1)
    counts = np.stack([counted(draw(generator), 100) for draw in SHAPES.values()])
    together, likelihoods = log_concave.fit(counts)
    for row, probability, likelihood in zip(counts, together, likelihoods, strict=True):
        (alone,), (value,) = log_concave.fit(row[None])
        assert likelihood == pytest.approx(value, abs=2 * log_concave.ACCURACY)
        np.testing.assert_allclose(probability, alone, atol=1e-3)


def test_probabilities_are_log_concave_and_sum_to_one():
    counts = counted(SHAPES["two"](np.random.default_rng(2)), 100)
    (p,), _ = log_concave.fit(counts[None])
    inside = np.flatnonzero(counts)
    assert p.sum() == pytest.approx(1) and (p[: inside[0]] == 0).all() and (p[inside[-1] + 1 :] == 0).all()
    assert np.diff(np.log(p[inside[0] : inside[-1] + 1]), 2).max() < 1e-9


@pytest.mark.parametrize("position", [0, 3, 9])
def test_a_single_value_has_all_of_the_probability(position):
    counts = np.zeros((1, 10))
    counts[0, position] = 5
    (p,), (likelihood,) = log_concave.fit(counts)
    assert p[position] == pytest.approx(1) and likelihood == pytest.approx(0, abs=1e-6)
