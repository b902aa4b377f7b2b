"""Verdicts on known populations, error rates of the tests, coverage of the intervals, and speed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, norm
from sklearn.mixture import GaussianMixture

from mgap_cli.config import AnalysisConfig, GapConfig
from mgap_cli.gap import bimodality
from mgap_cli.gap.bimodality import Bimodality, examine, resampled
from mgap_cli.gap.mixture import GapFit, Mixture, analyse, balanced_component, fit_mixture
from mgap_cli.gap.scores import Scores
from mgap_cli.stats import binned

FEW = AnalysisConfig(resamples=99)


def pair(audio: np.ndarray, visual: np.ndarray) -> dict[str, np.ndarray]:
    return {"audio": audio, "visual": visual}


def drawn(*parts: tuple[int, float, float], seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.clip(np.concatenate([generator.normal(mean, sd, n) for n, mean, sd in parts]), -1, 1)


def fitted(gap: np.ndarray, config: GapConfig | None = None, modalities=("audio", "visual")) -> GapFit:
    ids = [str(i) for i in range(len(gap))]
    labels = np.zeros(len(gap), dtype=np.int64)
    first, second = np.maximum(gap, 0), np.maximum(-gap, 0)
    scores = Scores(ids, ("only",), labels, dict(zip(modalities, (first, second), strict=True)))
    return analyse(scores, config or GapConfig())


def examined(gap: np.ndarray, config: GapConfig | None = None) -> Bimodality:
    return examine(fitted(gap, config), FEW, config)


def quick_fit(gap: np.ndarray) -> GapFit:
    """As `fitted`, without the fits that only BIC and ICL need."""
    mixture, _ = fit_mixture(gap, GapConfig(n_init=1))
    posterior = mixture.posterior(gap)
    scores = Scores(
        [], ("only",), np.zeros(len(gap), np.int64), pair(np.maximum(gap, 0), np.maximum(-gap, 0))
    )
    return GapFit(scores, mixture, posterior, mixture.components(gap), {}, {}, 0.0, None, [])


@pytest.mark.parametrize(
    ("verdict", "gap"),
    [
        ("several populations", drawn((600, 0.1, 0.08), (400, 0.6, 0.12))),
        ("one population", drawn((1000, 0.0, 0.1))),  # folded: two Gaussians are needed for |gap|
        ("one population", drawn((1000, 0.5, 0.1))),
        ("skewed or mixed", np.random.default_rng(0).beta(2, 6, 2000)),
        ("skewed or mixed", np.minimum(np.random.default_rng(0).exponential(0.1, 2000), 1)),
        ("no valley", drawn((1800, 0.2, 0.08), (200, 0.44, 0.08))),  # a minority of 10 %, 3 sd away
    ],
)
def test_verdicts(verdict, gap):
    examination = examined(gap)
    assert examination.verdict == verdict, examination
    assert ("two populations:" in examination.sentence) == (verdict == "several populations")
    assert ("no evidence" in examination.sentence) == (verdict == "one population")


@pytest.mark.parametrize(("decimals", "n"), [(1, 1000), (2, 5000), (3, 100_000)])
def test_rounded_scores_do_not_make_populations(decimals, n):
    generator = np.random.default_rng(0)
    gap = np.round(generator.beta(5, 3, n), decimals)
    examination = examined(gap)
    assert examination.rounded_to == pytest.approx(10.0**-decimals)
    assert examination.dip.p_value > 0.2
    assert examination.verdict in ("one population", "skewed or mixed")
    assert f"rounded to steps of {10.0**-decimals:g}" in examination.warnings[0]


def test_rounded_scores_of_two_populations_are_two():
    gap = np.round(drawn((600, 0.1, 0.08), (400, 0.6, 0.12)), 2)
    assert examined(gap).verdict == "several populations"


def test_three_populations_of_signed_gaps():
    gap = drawn((600, 0.0, 0.08), (250, 0.6, 0.1), (150, -0.5, 0.1))
    examination = examined(gap, GapConfig(kind="signed", components=3))
    assert examination.sentence.startswith("several populations: 59.9% balanced, audio leads in 6")
    assert examination.lead == pytest.approx(250 / 400, abs=0.02)


def test_the_sentence_names_the_leader():
    gap = drawn((600, 0.0, 0.08), (40, 0.6, 0.1), (360, -0.6, 0.1))
    fit = fitted(gap, modalities=("radar", "lidar"))
    examination = examine(fit, FEW)
    assert f"{fit.balanced_share:.1%} balanced, lidar leads in 89.9% of" in examination.sentence


@pytest.mark.parametrize(
    ("gap", "words"), [(np.full(30, 0.25), "every gap is +0.250"), (np.arange(9) / 9, "n = 9")]
)
def test_without_a_mixture_there_is_a_sentence_and_nothing_else(gap, words):
    examination = examined(gap)
    assert words in examination.sentence and examination.verdict == "no mixture"
    assert examination.ratio is examination.dip is examination.fit is examination.balanced is None
    assert examination.to_dict()["intervals"]["weights"] == []


def test_ten_samples_give_a_result():
    answer = examined(np.array([0.1, 0.12, 0.09, 0.11, 0.08, 0.8, 0.82, 0.79, 0.81, 0.83]))
    low, high = answer.balanced
    assert low < 0.5 < high
    assert np.isfinite([*sum(answer.means, ()), *sum(answer.sds, ()), answer.ratio.statistic]).all()


def test_a_true_null_is_rejected_at_its_level():
    fits = [quick_fit(drawn((150, 0.05, 0.15), seed=seed)) for seed in range(25)]
    p = [examine(fit, AnalysisConfig(resamples=49)).ratio.p_value for fit in fits]
    assert np.mean(np.array(p) <= 0.1) < 0.25
    assert 0.3 < np.mean(p) < 0.7


def test_intervals_cover_the_true_values():
    """This holds for about 95 of 100 samples; with 100 samples, chance gives 88 to 99."""
    truth = {"weights": (0.6, 0.4), "means": (0.25, 0.65), "sds": (0.06, 0.1)}
    covered: dict[tuple[str, int], list[bool]] = {}
    for seed in range(100):
        few = np.random.default_rng(seed).binomial(500, 0.6)
        fit = quick_fit(drawn((few, 0.25, 0.06), (500 - few, 0.65, 0.1), seed=seed))
        ends = resampled(fit, GapConfig().sd_floor, AnalysisConfig(seed=seed), np.random.default_rng(seed))
        for name, values in truth.items():
            for k, value in enumerate(values):
                low, high = ends[name][k]
                covered.setdefault((name, k), []).append(low <= value <= high)
    coverage = {key: np.mean(values) for key, values in covered.items()}
    assert all(0.88 <= share <= 0.995 for share in coverage.values()), coverage
    assert np.mean(list(coverage.values())) == pytest.approx(0.95, abs=0.03)


def test_the_interval_surrounds_the_estimate():
    gap = drawn((600, 0.1, 0.08), (300, 0.6, 0.12), (100, -0.6, 0.12))
    fit = fitted(gap)
    examination = examine(fit, FEW)
    assert examination.balanced[0] < fit.balanced_share < examination.balanced[1]
    assert examination.lead_interval[0] < examination.lead < examination.lead_interval[1]
    assert examination.lead == pytest.approx(np.mean(gap[fit.imbalanced] > 0))
    for name in ("weights", "means", "sds"):
        for value, (low, high) in zip(getattr(fit.mixture, name), getattr(examination, name), strict=True):
            assert low < value < high


def test_the_distance_is_kolmogorovs():
    fit = fitted(drawn((600, 0.1, 0.08), (400, 0.6, 0.12)))
    m = fit.mixture

    def cdf(x):
        return sum(w * norm.cdf(x, mean, sd) for w, mean, sd in zip(m.weights, m.means, m.sds, strict=True))

    assert examine(fit, FEW).fit.statistic == pytest.approx(
        kstest(m.value(fit.scores.gap), cdf).statistic, abs=4e-3
    )


def test_it_is_reproducible_and_the_seed_counts():
    fit = fitted(drawn((60, 0.1, 0.08), (40, 0.5, 0.2)))
    assert examine(fit, FEW) == examine(fit, FEW)
    assert examine(fit, AnalysisConfig(resamples=99, seed=1)) != examine(fit, FEW)


@pytest.mark.parametrize("components", [1, 2, 3])
def test_binned_em_is_scikit_learns(components):
    gap = np.abs(drawn((6000, 0.15, 0.06), (4000, 0.6, 0.1), (2000, 0.9, 0.03)))
    fit = fitted(gap, GapConfig(components=components))
    model = GaussianMixture(components, n_init=3, random_state=0, reg_covar=1e-9, tol=1e-7, max_iter=2000)
    model.fit(gap[:, None])
    order = np.argsort(model.means_[:, 0])
    np.testing.assert_allclose(fit.mixture.weights, model.weights_[order], atol=2e-3)
    np.testing.assert_allclose(fit.mixture.means, model.means_[order, 0], atol=1e-3)
    np.testing.assert_allclose(fit.mixture.sds, np.sqrt(model.covariances_[order, 0, 0]), atol=1e-3)
    assert fit.bic[components] == pytest.approx(model.bic(gap[:, None]), abs=1.0)
    shares = model.predict_proba(gap[:, None])
    entropy = -np.sum(shares * np.log(np.maximum(shares, 1e-300)))
    assert fit.icl[components] == pytest.approx(model.bic(gap[:, None]) + 2 * entropy, rel=5e-3)


def test_em_of_many_is_em_of_each():
    x = binned.centres(binned.edges(0.0, 1.0, 0.01))
    generator = np.random.default_rng(0)
    counts = np.stack([np.histogram(generator.beta(2, 3, n), len(x), (0, 1))[0] for n in (50, 500, 900)])
    cuts = [(0.3,), (0.7,)]
    together, likelihood = binned.fit(x, counts.astype(float), 2, 0.01, cuts)
    for i, row in enumerate(counts.astype(float)):
        alone, (value,) = binned.fit(x, row[None], 2, 0.01, cuts)
        np.testing.assert_allclose(together.means[i], alone.means[0], atol=1e-9)
        assert likelihood[i] == pytest.approx(value)


def test_a_folded_component_is_a_folded_normal():
    x = binned.centres(binned.edges(0.0, 1.0, 0.01))
    for mean, sd in ((0.0, 0.1), (0.15, 0.1), (0.5, 0.08)):
        gap = np.abs(np.random.default_rng(0).normal(mean, sd, 20_000))
        counts = np.histogram(gap, len(x), (0, 1))[0].astype(float)
        fit, _ = binned.fit(x, counts[None], 1, 0.001, [()], folded=True)
        # The likelihood hardly depends on a mean below half a standard deviation.
        assert abs(fit.means[0, 0]) == pytest.approx(mean, abs=0.05 if mean < sd else 0.01)
        assert fit.means[0, 0] ** 2 + fit.sds[0, 0] ** 2 == pytest.approx(np.mean(gap**2), rel=5e-3)


def test_a_modality_that_leads_everywhere_has_an_interval_below_certainty():
    generator = np.random.default_rng(4)
    p_audio = np.where(generator.random(60) < 0.5, 0.95, 0.5)
    scores = Scores(
        [str(i) for i in range(60)], ("a", "b"), np.zeros(60, np.int64), pair(p_audio, np.full(60, 0.5))
    )
    examination = examine(analyse(scores, GapConfig()), FEW)
    assert examination.lead == 1.0 and examination.lead_interval is not None
    low, high = examination.lead_interval
    assert 0.8 < low < 0.95 and high == 1.0


@pytest.mark.parametrize("gap_kind", ["absolute", "signed"])
def test_the_posterior_of_many_mixtures_is_that_of_each(gap_kind):
    """On a grid for all resamples at once, and exactly for one mixture: the same curve."""
    low = 0.0 if gap_kind == "absolute" else -1.0
    means, sds = (
        np.array([[0.1, 0.3], [0.05, 0.6], [0.2, 0.25]]),
        np.array([[0.02, 0.4], [0.1, 0.1], [0.3, 0.05]]),
    )
    weights = np.array([[0.5, 0.5], [0.8, 0.2], [0.3, 0.7]])
    x = np.linspace(low, 1.0, 20_001)
    together = bimodality._posterior(binned.Components(weights, means, sds), x, gap_kind == "absolute")
    balanced = balanced_component(means, sds)
    for k in range(3):
        mixture = Mixture(gap_kind, weights[k], means[k], sds[k], int(balanced[k]))
        np.testing.assert_allclose(together[k], mixture.posterior(x), atol=1e-4)
