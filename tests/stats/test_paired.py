"""The randomisation test and Holm's correction, compared with scipy and their definitions."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mgap_cli.errors import UnfitError
from mgap_cli.stats.multiple_testing import holm
from mgap_cli.stats.paired import EXACT_PAIRS, sign_flip, smallest_p

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_sign_flips_agree_with_scipy(n: int):
    generator = np.random.default_rng(n)
    a, b = generator.normal(size=n), generator.normal(0.5, size=n)
    test = stats.permutation_test(
        (b, a), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples",
        n_resamples=np.inf, vectorized=True,
    )  # fmt: skip
    assert sign_flip((b - a).tolist()) == pytest.approx(test.pvalue)


def test_by_hand():
    # Means of 1, 2, 3 under all signs: |6|, |4|, |2|, |0| twice each; at least 6 in 2 of 8.
    assert sign_flip([1, 2, 3]) == 2 / 8
    assert sign_flip([1, 2, -3]) == 1.0
    assert sign_flip([0.1, 0.1, 0.1, -0.1]) == pytest.approx(10 / 16)  # ties count, rounding or not
    assert sign_flip([0.0, 0.0]) == sign_flip([]) == 1.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("n", [2, EXACT_PAIRS + 4])
def test_differences_that_are_not_finite_have_no_p_value(bad: float, n: int):
    with pytest.raises(UnfitError, match=f"1 of {n} differences are NaN or infinite"):
        sign_flip([bad, *[0.1] * (n - 1)])


@pytest.mark.parametrize("n", [1, 2, 5, 6, 10])
def test_the_smallest_p_is_attained_by_agreement_and_by_nothing_less(n: int):
    assert sign_flip([0.3 + 0.01 * i for i in range(n)]) == smallest_p(n) == 2 / 2**n


def test_many_seeds_are_sampled():
    n = EXACT_PAIRS + 4
    differences = np.random.default_rng(0).normal(0.3, 1, n)
    exact = np.mean([abs(np.dot(s, differences[:12])) >= abs(differences[:12].sum()) - 1e-12
                     for s in product((1, -1), repeat=12)])  # fmt: skip
    assert sign_flip(differences[:12].tolist()) == pytest.approx(exact)
    p = sign_flip(differences.tolist())
    assert p == pytest.approx(stats.wilcoxon(differences).pvalue, abs=0.1)
    assert sign_flip([1.0 + 0.1 * i for i in range(n)]) >= smallest_p(n) > 0


@given(P_VALUES)
@settings(max_examples=80, deadline=None)
def test_holm_by_its_definition(p_values: list[float]):
    """A hypothesis is rejected at alpha if its p-value and all smaller ones pass alpha / (m - rank)."""
    adjusted, m = holm(p_values), len(p_values)
    ordered = sorted(p_values)
    for p, q in zip(p_values, adjusted, strict=True):
        assert p <= q <= 1
        steps = [(m - i) * smaller for i, smaller in enumerate(ordered) if smaller <= p]
        assert q == pytest.approx(min(1, max(steps)))


def test_holm_by_the_textbook():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.2]) == [0.2]
