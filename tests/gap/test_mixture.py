"""The mixture, compared with scikit-learn and with brute force on a fine grid, and on degenerate input."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.mixture import GaussianMixture

from mgap_cli.config import GapConfig
from mgap_cli.errors import ExitCode, UnfitError
from mgap_cli.gap.mixture import (
    MIN_SAMPLES,
    GapFit,
    Mixture,
    _nothing_balanced,
    analyse,
    balanced_component,
    fit_mixture,
)
from mgap_cli.gap.scores import Scores
from mgap_cli.stats import em

ABSOLUTE = GapConfig()
SIGNED = GapConfig(kind="signed", components=3)
PAIR = ("audio", "visual")


def drawn(*parts: tuple[int, float, float], seed: int = 0) -> np.ndarray:
    """Shuffled signed gaps: `count` values from N(mean, sd^2) for each part."""
    generator = np.random.default_rng(seed)
    gaps = np.concatenate([generator.normal(mean, sd, count) for count, mean, sd in parts])
    return np.clip(generator.permutation(gaps), -1, 1)


TWO = drawn((300, 0.12, 0.05), (200, 0.7, 0.1))
THREE = drawn((250, 0.02, 0.08), (150, 0.6, 0.1), (100, -0.5, 0.1))


def scored(gap: np.ndarray) -> Scores:
    """A table of scores with these signed gaps."""
    n = len(gap)
    return Scores(
        ids=[str(i) for i in range(n)],
        classes=("only",),
        labels=np.zeros(n, dtype=np.int64),
        p={"audio": np.maximum(gap, 0.0), "visual": np.maximum(-gap, 0.0)},
    )


def analysed(gap: np.ndarray, config: GapConfig = ABSOLUTE) -> GapFit:
    return analyse(scored(gap), config)


def scikit(mixture: Mixture) -> GaussianMixture:
    """scikit-learn's mixture with the same parameters."""
    model = GaussianMixture(len(mixture.weights))
    model.weights_, model.means_ = mixture.weights, mixture.means[:, None]
    model.covariances_ = mixture.sds[:, None, None] ** 2
    model.precisions_cholesky_ = 1 / mixture.sds[:, None, None]
    return model


def bayes(mixture: Mixture, gap: np.ndarray) -> np.ndarray:
    """1 - P(balanced | gap) from scikit-learn, which need not be monotone."""
    x = np.abs(gap) if mixture.gap_kind == "absolute" else gap
    return 1 - scikit(mixture).predict_proba(x[:, None])[:, mixture.balanced]


def brute_force(mixture: Mixture, x: np.ndarray) -> np.ndarray:
    """The posterior one sample at a time: the extreme of Bayes' rule from the balanced mean to it."""
    centre = mixture.means[mixture.balanced]
    values = []
    for value in x:
        way = bayes(mixture, np.linspace(centre, value, 2001))
        inward = mixture.gap_kind == "absolute" and value < centre
        values.append(way.min() if inward else way.max())
    return np.array(values)


@st.composite
def mixtures(draw: st.DrawFn, gap_kind: str, components: int) -> Mixture:
    def numbers(low: float, high: float) -> np.ndarray:
        return np.array(draw(st.lists(st.floats(low, high), min_size=components, max_size=components)))

    weights = numbers(0.01, 1.0)
    means = np.sort(numbers(0.0 if gap_kind == "absolute" else -1.0, 1.0))
    balanced = int(np.argmin(np.abs(means)))
    return Mixture(gap_kind, weights / weights.sum(), means, numbers(0.01, 0.7), balanced)


any_mixture = st.sampled_from([("absolute", 2), ("absolute", 3), ("signed", 2), ("signed", 3)]).flatmap(
    lambda pair: mixtures(*pair)
)


def grid(mixture: Mixture, count: int) -> np.ndarray:
    return np.linspace(0.0 if mixture.gap_kind == "absolute" else -1.0, 1.0, count)


@pytest.mark.parametrize(("gap", "config"), [(TWO, ABSOLUTE), (THREE, ABSOLUTE), (THREE, SIGNED)])
def test_posterior_is_scikit_learns_where_monotonicity_does_not_intervene(gap, config):
    mixture, _ = fit_mixture(gap, config)
    x = mixture.value(gap)
    raw = bayes(mixture, gap)
    free = np.abs(raw - brute_force(mixture, x)) < 1e-12
    assert free.mean() > 0.5  # most samples, not only a few
    np.testing.assert_allclose(mixture.posterior(gap)[free], raw[free], atol=1e-9)


@pytest.mark.parametrize(("gap_kind", "centre"), [("absolute", 0.1), ("signed", 0.0)])
def test_the_wider_gaussian_does_not_win_again_on_the_wrong_side(gap_kind, centre):
    # Bayes' rule would call a gap of 0 imbalanced here and 0.1 balanced; monotonicity removes this.
    mixture = Mixture(gap_kind, np.array([0.5, 0.5]), np.array([centre, 0.3]), np.array([0.02, 0.4]), 0)
    wrong = np.array([centre - 0.1])
    assert bayes(mixture, wrong)[0] > 0.9
    posterior = mixture.posterior(wrong)[0]
    if gap_kind == "absolute":
        assert posterior <= bayes(mixture, np.array([centre]))[0] < 0.5
    else:  # a gap on the other side of a signed balanced mean is also imbalanced
        assert posterior == pytest.approx(bayes(mixture, wrong)[0])


@settings(max_examples=60, deadline=None)
@given(any_mixture)
def test_posterior_equals_brute_force(mixture):
    x = grid(mixture, 21)
    np.testing.assert_allclose(mixture.posterior(x), brute_force(mixture, x), atol=2e-3)


@settings(max_examples=150, deadline=None)
@given(any_mixture, st.randoms(use_true_random=False))
def test_posterior_never_falls_as_the_gap_grows(mixture, random):
    extra = np.array([random.uniform(-1, 1) for _ in range(50)])
    x = np.unique(np.concatenate([grid(mixture, 3001), mixture.value(extra)]))
    r = mixture.posterior(x)
    assert ((r >= 0) & (r <= 1)).all()
    if mixture.gap_kind == "absolute":
        assert (np.diff(r) >= -1e-9).all()
    else:
        centre = mixture.means[mixture.balanced]
        assert (np.diff(r[x >= centre]) >= -1e-9).all()
        assert (np.diff(r[x <= centre]) <= 1e-9).all()


@settings(max_examples=50, deadline=None)
@given(any_mixture)
def test_posterior_of_a_sample_does_not_depend_on_its_batch(mixture):
    x = np.random.default_rng(0).uniform(-1, 1, 40)
    alone = np.concatenate([mixture.posterior(x[i : i + 1]) for i in range(len(x))])
    np.testing.assert_allclose(alone, mixture.posterior(x), atol=1e-13)
    if mixture.gap_kind == "absolute":
        np.testing.assert_array_equal(mixture.posterior(-x), mixture.posterior(x))


@pytest.mark.parametrize("far", [1e-3, 1e-4])
def test_posterior_has_no_overflow(far):
    mixture = Mixture("absolute", np.array([0.5, 0.5]), np.array([0.0, 1.0]), np.array([far, far]), 0)
    with np.errstate(all="raise", under="ignore"), warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(mixture.posterior(np.array([0.0, 0.2, 0.8, 1.0])), [0, 0, 1, 1])


@pytest.mark.parametrize("floor", [1e-2, 5e-2])
def test_variance_floor(floor):
    gap = np.concatenate([np.full(50, 0.1), np.full(50, 0.8)])
    mixture, _ = fit_mixture(gap, GapConfig(sd_floor=floor))
    np.testing.assert_allclose(mixture.means, [0.1, 0.8], atol=1e-6)
    np.testing.assert_allclose(mixture.sds, floor, rtol=1e-6)


def test_known_parameters_are_recovered():
    weights, means, sds = [0.2, 0.5, 0.3], [-0.5, 0.02, 0.6], [0.1, 0.08, 0.12]
    counts = [round(6000 * w) for w in weights]
    mixture, found_warnings = fit_mixture(drawn(*zip(counts, means, sds, strict=True)), SIGNED)
    np.testing.assert_allclose(mixture.weights, weights, atol=0.02)
    np.testing.assert_allclose(mixture.means, means, atol=0.02)
    np.testing.assert_allclose(mixture.sds, sds, atol=0.02)
    assert mixture.balanced == 1
    assert not found_warnings


def test_roles():
    signed, _ = fit_mixture(THREE, SIGNED)
    assert [signed.role(k, PAIR) for k in range(3)] == ["visual-dominated", "balanced", "audio-dominated"]
    absolute, _ = fit_mixture(TWO, ABSOLUTE)
    assert [absolute.role(k, PAIR) for k in range(2)] == ["balanced", "imbalanced"]


def test_components_follow_the_posterior_and_the_side():
    mixture, _ = fit_mixture(THREE, SIGNED)
    component = mixture.components(THREE)
    r = mixture.posterior(THREE)
    np.testing.assert_array_equal(component == mixture.balanced, r < 0.5)
    sides = np.array([mixture.role(k, PAIR) for k in component])
    assert (sides[THREE > 0.4] == "audio-dominated").all()
    assert (sides[THREE < -0.35] == "visual-dominated").all()
    assert (sides[np.abs(THREE) < 0.1] == "balanced").all()


@pytest.mark.parametrize(("gap", "config"), [(TWO, ABSOLUTE), (THREE, ABSOLUTE), (THREE, SIGNED)])
def test_crossing_is_where_the_posterior_passes_one_half(gap, config):
    mixture, _ = fit_mixture(gap, config)
    crossing = mixture.crossing()
    assert crossing is not None
    assert crossing > 0.05
    both_sides = np.array([1, -1])
    assert (mixture.posterior(both_sides * crossing) >= 0.5).any()
    assert (mixture.posterior(both_sides * (crossing - 1.5e-4)) < 0.5).all()


def test_crossing_is_none_where_nothing_is_imbalanced():
    mixture = Mixture("absolute", np.array([0.99, 0.01]), np.array([0.0, 0.05]), np.array([0.3, 0.3]), 0)
    assert mixture.posterior(np.linspace(0, 1, 50)).max() < 0.5
    assert mixture.crossing() is None


@pytest.mark.parametrize(("gap", "config"), [(TWO, ABSOLUTE), (THREE, SIGNED)])
def test_a_permutation_of_the_samples_permutes_the_posteriors(gap, config):
    order = np.random.default_rng(1).permutation(len(gap))
    straight, _ = fit_mixture(gap, config)
    shuffled, _ = fit_mixture(gap[order], config)
    np.testing.assert_allclose(shuffled.posterior(gap[order]), straight.posterior(gap)[order], atol=1e-2)
    np.testing.assert_array_equal(shuffled.components(gap[order]), straight.components(gap)[order])


def test_a_fit_is_reproducible():
    a, b = analysed(TWO), analysed(TWO)
    np.testing.assert_array_equal(a.posterior, b.posterior)
    assert a.bic == b.bic


@pytest.mark.parametrize(("gap", "config"), [(TWO, ABSOLUTE), (THREE, SIGNED)])
def test_bic_and_log_likelihood(gap, config):
    fit = analysed(gap, config)
    x = fit.mixture.value(gap)[:, None]
    assert list(fit.bic) == [1, 2, 3, 4]
    assert fit.log_likelihood == pytest.approx(scikit(fit.mixture).score_samples(x).sum())
    k = config.components
    assert fit.bic[k] == pytest.approx(-2 * fit.log_likelihood + (3 * k - 1) * np.log(len(gap)))
    for components, bic in fit.bic.items():
        model = GaussianMixture(
            components, n_init=2, random_state=0, reg_covar=1e-9, tol=1e-7, max_iter=1000
        ).fit(x)
        # mgap may have a lower value, because it searches longer; no sd is near the floor here.
        assert bic < model.bic(x) + 0.02
        if components <= k:
            assert bic == pytest.approx(model.bic(x), abs=0.02)


def test_well_separated_gaps_raise_no_warning():
    fit = analysed(TWO)
    assert fit.warnings == []
    assert fit.balanced_share == pytest.approx(0.6, abs=0.02)


def test_unimodal_gaps_are_reported_as_unimodal():
    fit = analysed(drawn((500, 0.5, 0.05)))
    assert min(fit.bic, key=fit.bic.__getitem__) == 1
    assert [w for w in fit.warnings if "unimodal" in w]


def test_the_folded_half_of_one_population_is_not_two():
    """Two Gaussians fit |g| of g ~ N(0, 0.1^2), but one fits the signed gaps."""
    fit = analysed(drawn((2000, 0.0, 0.1)))
    assert min(fit.bic, key=fit.bic.__getitem__) > 1
    assert [w for w in fit.warnings if "unimodal" in w]
    assert not analysed(drawn((1500, 0.0, 0.05), (500, 0.7, 0.1))).warnings
    assert not analysed(THREE).warnings  # both sides of 0


def test_a_component_of_less_than_one_percent_is_called_stray():
    fit = analysed(drawn((996, 0.1, 0.02), (4, 0.9, 0.01)))
    assert [w for w in fit.warnings if "0.4%" in w]
    assert not analysed(drawn((900, 0.1, 0.02), (100, 0.9, 0.01))).warnings


@pytest.mark.parametrize("config", [ABSOLUTE, SIGNED], ids=["absolute", "signed"])
@pytest.mark.parametrize(
    ("gap", "why"),
    [(TWO[: MIN_SAMPLES - 1], f"only {MIN_SAMPLES - 1} samples"), (np.full(50, -0.3), "only 1 distinct")],
    ids=["few", "constant"],
)
def test_too_little_to_fit_is_one_balanced_component_and_a_warning(gap, why, config):
    fit = analysed(gap, config)
    assert why in fit.warnings[0]
    np.testing.assert_array_equal(fit.posterior, 0.0)
    np.testing.assert_array_equal(fit.component, 0)
    assert fit.balanced_share == 1.0
    assert fit.crossing is None
    assert np.isfinite(fit.log_likelihood)
    assert fit.mixture.sds[0] >= config.sd_floor


def test_ten_samples_are_enough():
    fit = analysed(np.array([0.0, 0.02, 0.04, 0.01, 0.03, 0.9, 0.88, 0.92, 0.91, 0.89]))
    np.testing.assert_array_equal(fit.component, [0] * 5 + [1] * 5)


@pytest.mark.parametrize("components", [1, 2, 3])
@pytest.mark.parametrize("gap_kind", ["absolute", "signed"])
@pytest.mark.parametrize(
    "gap",
    [
        np.tile([0.0, 1.0], 10),
        np.tile([-1.0, 0.0, 1.0], 10),
        np.append(np.zeros(200), 1.0),
        0.3 + 1e-13 * np.arange(20),
        np.zeros(20),
    ],
    ids=["two values", "three values", "one outlier", "rounding noise", "zero"],
)
def test_degenerate_gaps_give_finite_answers(gap, gap_kind, components):
    config = GapConfig(kind=gap_kind, components=components)
    fit = analysed(gap, config)
    assert np.isfinite(fit.posterior).all()
    assert np.isfinite(fit.log_likelihood)
    assert np.isfinite(list(fit.bic.values())).all()
    assert fit.mixture.weights.sum() == pytest.approx(1)
    assert (fit.mixture.sds >= config.sd_floor * (1 - 1e-9)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_gaps_that_are_not_finite_are_refused_with_their_number(bad):
    gap = TWO.copy()
    gap[[1, 5, 9]] = bad
    with pytest.raises(UnfitError, match=rf"3 of {len(gap)} gaps are NaN or infinite") as caught:
        fit_mixture(gap, ABSOLUTE)
    assert caught.value.exit_code == ExitCode.UNFIT
    assert caught.value.hint


def test_no_gaps_are_refused():
    with pytest.raises(UnfitError, match="no gaps"):
        fit_mixture(np.zeros(0), ABSOLUTE)


def test_one_component_calls_nothing_imbalanced():
    fit = analysed(TWO, dataclasses.replace(ABSOLUTE, components=1))
    np.testing.assert_array_equal(fit.posterior, 0.0)
    assert fit.mixture.means[0] == pytest.approx(np.abs(TWO).mean())


def test_in_a_near_tie_the_narrower_component_is_balanced():
    means, sds = np.array([0.05, 0.06]), np.array([0.3, 0.04])
    assert balanced_component(means, sds) == 1
    assert balanced_component(-means, sds) == 1
    assert balanced_component(np.array([0.05, 0.6]), sds) == 0  # far apart, so no tie
    assert (
        balanced_component(np.array([0.05, 0.06]), sds[::-1]) == 0
    )  # the nearest component is the narrower one
    both = balanced_component(np.stack([means, [0.05, 0.6]]), np.stack([sds, sds]))
    np.testing.assert_array_equal(both, [1, 0])


@pytest.mark.parametrize("seed", range(6))
def test_means_that_nearly_coincide_do_not_make_everyone_imbalanced(seed):
    gap = drawn((300, 0.03, 0.05), (300, 0.0, 0.35), seed=seed)
    mixture, warnings = fit_mixture(gap, GapConfig(kind="signed"))
    assert mixture.sds[mixture.balanced] == mixture.sds.min()
    assert 0.3 < np.mean(mixture.posterior(gap) < 0.5) < 0.8
    assert not warnings


@pytest.mark.parametrize(
    ("mixture", "what"),
    [
        (
            Mixture("signed", np.array([0.06, 0.94]), np.array([0.0, 0.2]), np.array([0.15, 0.12]), 0),
            "no sample is balanced",
        ),
        (
            Mixture("absolute", np.array([0.1, 0.9]), np.array([0.1, 0.2]), np.array([0.1, 0.08]), 0),
            "a gap at the balanced component's own mean counts as imbalanced",
        ),
    ],
    ids=["everywhere", "at its mean"],
)
def test_a_balanced_component_that_another_one_covers_is_warned_of(mixture, what):
    (text,) = _nothing_balanced(mixture, em.points(np.linspace(0, 0.5, 51), 0.01))
    assert text.startswith(what)


@pytest.mark.parametrize("config", [ABSOLUTE, SIGNED], ids=["absolute", "signed"])
def test_nothing_jumps_at_any_number_of_samples(config):
    """All sizes use the same code: twenty more rows hardly change the share, also at 10,000 rows."""
    gap = drawn((6006, 0.0, 0.08), (2503, 0.35, 0.2), (1501, -0.4, 0.15))
    shares = []
    for n in (9_990, 10_010):
        mixture, _ = fit_mixture(gap[:n], config)
        shares.append(np.mean(mixture.posterior(gap[:n]) < 0.5))
    assert abs(shares[0] - shares[1]) < 0.002
