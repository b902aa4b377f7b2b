"""Metrics compared with references: scikit-learn, scipy, and counting by hand."""

from __future__ import annotations

import dataclasses
import json
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from mgap_cli.config import EvaluateConfig
from mgap_cli.errors import UnfitError, UsageError
from mgap_cli.evaluation import metrics
from mgap_cli.gap.scores import Scores
from mgap_cli.stats.paired import EXACT_BELOW

CONFIG = EvaluateConfig(bootstrap=500)
CLASSES = ("a", "b", "c", "never seen")


def made(seed: int = 0, n: int = 120, skill: float = 1.5, ids: str = "s"):
    """Labels of 3 classes, probabilities of 4: the last class has no samples."""
    generator = np.random.default_rng(seed)
    labels = np.random.default_rng(99).integers(0, 3, n)
    probabilities = {}
    for head, weight in (("fused", skill), ("audio", 1.0), ("visual", 0.2)):
        logits = generator.normal(size=(n, 4))
        logits[np.arange(n), labels] += weight
        probabilities[head] = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = [f"{ids}{i}" for i in range(n)]
    p = {m: probabilities[m][np.arange(n), labels] for m in ("audio", "visual")}
    return names, labels, CLASSES, probabilities, Scores(names, CLASSES, labels, p)


def evaluated(name: str = "x", **kwargs) -> metrics.Evaluation:
    return metrics.summarise(*made(**kwargs), config=CONFIG, name=name, split="test")


def test_summary_agrees_with_scikit_learn():
    ids, labels, classes, probabilities, scores = made()
    posterior = np.linspace(0, 1, len(ids))
    e = metrics.summarise(
        ids, labels, classes, probabilities, scores,
        config=CONFIG, name="x", split="test", seed="3", posterior=posterior,
    )  # fmt: skip
    for head, p in probabilities.items():
        predicted = p.argmax(axis=1)
        assert e.heads[head].accuracy == pytest.approx(sk.accuracy_score(labels, predicted))
        assert e.heads[head].macro_f1 == pytest.approx(np.mean([
            sk.f1_score(labels == c, predicted == c, zero_division=0)
            for c in set(labels.tolist()) | set(predicted.tolist())
        ]))  # fmt: skip
        recalls = sk.recall_score(labels, predicted, average=None, labels=[0, 1, 2])
        assert e.heads[head].per_class[:3] == pytest.approx(tuple(recalls))
        assert e.heads[head].per_class[3] is None
        average_precisions = [sk.average_precision_score(labels == c, p[:, c]) for c in range(3)]
        assert e.heads[head].mean_average_precision == pytest.approx(np.mean(average_precisions))
        assert (e.correct[head] == (predicted == labels)).all()
    assert e.absent == ("never seen",)
    assert e.class_counts == (*np.bincount(labels).tolist(), 0)
    gaps = [a - v for a, v in zip(*scores.p.values(), strict=True)]
    assert e.gap.mean_absolute == pytest.approx(sum(map(abs, gaps)) / len(gaps))
    assert e.gap.median_absolute == pytest.approx(np.median(list(map(abs, gaps))))
    assert e.gap.mean_signed == pytest.approx(sum(gaps) / len(gaps))
    assert e.gap.leads == {
        "audio": sum(g > 0 for g in gaps) / len(gaps),
        "visual": sum(g < 0 for g in gaps) / len(gaps),
    }
    assert e.gap.balanced == 0.5


def test_document_is_plain_json():
    document = json.loads(json.dumps(evaluated().to_dict(), allow_nan=False))
    assert document["n"] == 120
    assert document["classes_without_samples"] == ["never seen"]
    assert document["heads"]["fused"]["per_class_accuracy"][3] is None
    assert document["gap"]["balanced_share"] is None


def test_unfit_input_is_named():
    ids, labels, classes, probabilities, scores = made()
    probabilities["fused"][3, 1] = np.nan
    with pytest.raises(UnfitError, match="1 of 480 fused values are not finite"):
        metrics.summarise(ids, labels, classes, probabilities, scores, config=CONFIG, name="x", split="val")
    with pytest.raises(UnfitError, match="the val split has no samples"):
        metrics.summarise([], labels[:0], classes, {}, None, config=CONFIG, name="x", split="val")


@pytest.mark.parametrize(("hits", "n"), [(30, 100), (600, 1000), (4, 6)])
def test_bootstrap_of_correctness_is_the_binomial(hits: int, n: int):
    """The bootstrap distribution of a mean of 0s and 1s is Binomial(n, hits / n) / n, exactly."""
    interval = metrics.bootstrap_mean(np.arange(n) < hits, EvaluateConfig(bootstrap=40_000))
    exact = stats.binom(n, hits / n)
    # With 40,000 draws, the empirical 2.5 % quantile is well between these exact quantiles.
    assert exact.ppf(0.02) <= interval.low * n <= exact.ppf(0.03)
    assert exact.ppf(0.97) <= interval.high * n <= exact.ppf(0.98)


def test_bootstrap_of_distinct_values_agrees_with_scipy(monkeypatch: pytest.MonkeyPatch):
    values = np.random.default_rng(5).exponential(size=80)
    config = EvaluateConfig(bootstrap=20_000, confidence=0.9)
    monkeypatch.setattr(metrics, "CHUNK", 80 * 999)  # several chunks, the last one partly filled
    ours = metrics.bootstrap_mean(values, config)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, confidence_level=0.9, method="percentile", random_state=1
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.015)


def test_bootstrap_is_seeded_and_defined_for_constants():
    values = np.random.default_rng(0).normal(size=50)
    first = metrics.bootstrap_mean(values, CONFIG)
    assert first == metrics.bootstrap_mean(values, CONFIG)
    assert first != metrics.bootstrap_mean(values, dataclasses.replace(CONFIG, seed=1))
    assert metrics.bootstrap_mean(np.ones(50), CONFIG) == metrics.Interval(1.0, 1.0)
    assert metrics.bootstrap_mean(np.ones(1), CONFIG) == metrics.Interval(1.0, 1.0)


def test_bootstrap_of_macro_f1_agrees_with_scikit_learn_on_resampled_data():
    generator = np.random.default_rng(3)
    labels = generator.choice(4, size=60, p=[0.5, 0.3, 0.17, 0.03])
    predicted = np.where(generator.random(60) < 0.6, labels, generator.integers(0, 4, 60))
    ours = metrics.bootstrap_macro_f1(labels, predicted, EvaluateConfig(bootstrap=20_000))
    draws = []
    for _ in range(1_500):
        rows = generator.integers(0, 60, 60)
        draws.append(sk.f1_score(labels[rows], predicted[rows], average="macro", zero_division=0))
    assert (ours.low, ours.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=0.025)


@given(st.integers(0, 14), st.integers(0, 14))
@settings(max_examples=40, deadline=None)
def test_few_discordant_pairs_are_tested_exactly(only_a: int, only_b: int):
    """Compared with enumeration of all splits that are at least as uneven; both sides are equally likely."""
    a = np.array([True] * only_a + [False] * only_b + [True, False])
    b = np.array([False] * only_a + [True] * only_b + [True, False])
    test = metrics.mcnemar(a, b)
    assert (test.only_a, test.only_b) == (only_a, only_b)
    n = only_a + only_b
    if n >= EXACT_BELOW:
        assert test.method.startswith("chi-square")
        return
    assert test.method == "exact binomial"
    if n <= 10:
        splits = [sum(ways) for ways in product((0, 1), repeat=n)]
        uneven = sum(abs(2 * s - n) >= abs(only_a - only_b) for s in splits)
        assert test.p_value == pytest.approx(uneven / 2**n)


def test_many_discordant_pairs_by_the_textbook():
    # 40 against 20: (|40 - 20| - 1)^2 / 60 = 6.01667, whose upper chi-square(1) tail is 0.01417.
    a = np.array([True] * 40 + [False] * 20 + [True] * 100)
    b = np.array([False] * 40 + [True] * 20 + [True] * 100)
    test = metrics.mcnemar(a, b)
    assert test.method.startswith("chi-square")
    assert test.p_value == pytest.approx(2 * stats.norm.sf(np.sqrt(361 / 60)))
    assert metrics.mcnemar(np.arange(60) < 30, np.arange(60) >= 30).p_value == 1.0


def test_comparison_pairs_by_id_and_counts_b_minus_a():
    a, b = evaluated("a", seed=0, skill=0.5), evaluated("b", seed=1, skill=2.5)
    c = metrics.compare(a, b, CONFIG)
    assert c.difference == pytest.approx(b.heads["fused"].accuracy - a.heads["fused"].accuracy)
    assert c.difference == pytest.approx((c.test.only_b - c.test.only_a) / c.n)
    assert c.interval.low < c.difference < c.interval.high
    order = np.random.default_rng(0).permutation(b.n)
    shuffled = dataclasses.replace(
        b,
        ids=tuple(b.ids[i] for i in order),
        correct={head: correct[order] for head, correct in b.correct.items()},
    )
    assert metrics.compare(a, shuffled, CONFIG) == c
    assert json.loads(json.dumps(c.to_dict(), allow_nan=False))["only_b_correct"] == c.test.only_b


def test_comparison_of_different_samples_is_refused():
    with pytest.raises(UsageError, match="different samples"):
        metrics.compare(evaluated("a"), evaluated("b", ids="other"), CONFIG)


def test_paired_interval_is_narrower_than_an_unpaired_one():
    """Pairing must use that the two checkpoints agree on nearly every sample."""
    a = evaluated("a")
    correct = a.correct["fused"].copy()
    correct[:3] = True
    b = dataclasses.replace(a, name="b", correct={"fused": correct})
    c = metrics.compare(a, b, CONFIG)
    single = a.heads["fused"].accuracy_interval
    assert c.interval.high - c.interval.low < 0.5 * (single.high - single.low)


def test_wilson_interval_by_its_formula():
    k, n, z = 7, 20, stats.norm.ppf(0.975)
    centre = (k + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * np.sqrt(k * (n - k) / n + z**2 / 4)
    interval = metrics.wilson_interval(k, n, 0.95)
    assert (interval.low, interval.high) == pytest.approx((centre - half, centre + half))
    assert metrics.wilson_interval(0, 5, 0.95).high > 0.3  # not the empty interval of the bootstrap
    assert metrics.wilson_interval(3, 5, 1.0) == metrics.Interval(0.0, 1.0)


def test_thirty_of_thirty_is_not_certainty():
    """The interval of every share and score of a perfect head reaches well below 1."""
    labels = np.arange(30) % 3
    m = metrics.head_metrics(labels, np.eye(8)[labels], EvaluateConfig(bootstrap=50, top_k=2))
    expected = stats.binomtest(30, 30).proportion_ci(0.95, method="wilson")
    for interval in (
        m.accuracy_interval, m.macro_f1_interval, m.mean_average_precision_interval, m.top_k.interval,
    ):  # fmt: skip
        assert (interval.low, interval.high) == pytest.approx((expected.low, 1.0))
    single = stats.binomtest(10, 10).proportion_ci(0.95, method="wilson")
    for interval in m.per_class_interval[:3]:
        assert (interval.low, interval.high) == pytest.approx((single.low, 1.0))
    assert m.per_class_interval[3:] == (None,) * 5
    assert m.balanced_accuracy_interval.low < 0.9 and m.balanced_accuracy_interval.high == 1.0
    document = json.loads(json.dumps(m.to_dict(), allow_nan=False))
    assert document["mean_average_precision_interval"][0] == pytest.approx(expected.low)
    assert document["per_class_accuracy_interval"][0][0] == pytest.approx(single.low)
    assert document["per_class_accuracy_interval"][3] is None


def test_the_influence_of_a_sample_on_average_precision_is_the_derivative():
    generator = np.random.default_rng(4)
    truth, score = generator.random(60) < 0.3, generator.integers(0, 9, 60) / 9  # with ties
    influence = metrics._average_precision_influence(truth, score)

    def weighted(i: int, by: float) -> float:
        weights = np.ones(60)
        weights[i] += by
        return float(sk.average_precision_score(truth, score, sample_weight=weights))

    expected = [(weighted(i, 1e-5) - weighted(i, -1e-5)) / 2e-5 for i in range(60)]
    np.testing.assert_allclose(influence, expected, atol=1e-7)


def coverage(interval_of, truth: float, labels_of) -> float:
    covered = []
    for seed in range(150):
        generator = np.random.default_rng(seed)
        labels = labels_of(generator)
        logits = generator.normal(size=(len(labels), 3))
        logits[np.arange(len(labels)), labels] += 2.0
        interval = interval_of(labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
        covered.append(interval.low <= truth <= interval.high)
    return float(np.mean(covered))


@pytest.mark.parametrize("name", ["mean_average_precision", "balanced_accuracy"])
def test_intervals_of_scores_cover_the_true_values(name):
    """This holds for about 95 % of samples of 120; for 150 such samples, chance gives 89 to 99 %."""
    config = EvaluateConfig()

    def drawn(generator, n=120):
        return generator.choice(3, n, p=[0.6, 0.3, 0.1])

    if name == "balanced_accuracy":
        # P(z_y + 2 is the largest of three), the same for each class.
        truth = stats.norm.expect(lambda z: stats.norm.cdf(z + 2) ** 2)

        def interval_of(labels, p):
            return metrics.balanced_accuracy_interval(labels, p.argmax(axis=1), config)
    else:
        generator = np.random.default_rng(1000)
        labels = drawn(generator, 200_000)
        logits = generator.normal(size=(len(labels), 3))
        logits[np.arange(len(labels)), labels] += 2.0
        truth = metrics.mean_average_precision(
            labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        )

        def interval_of(labels, p):
            return metrics.mean_average_precision_interval(labels, p, config)

    assert 0.89 <= coverage(interval_of, truth, drawn) <= 0.995


def test_roc_auc_counts_pairs():
    generator = np.random.default_rng(2)
    truth, score = generator.random(40) < 0.4, generator.integers(0, 6, 40).astype(float)
    pairs = [(p > q) + 0.5 * (p == q) for p in score[truth] for q in score[~truth]]
    assert metrics.roc_auc(truth, score) == pytest.approx(np.mean(pairs))
    assert metrics.roc_auc(np.ones(4, dtype=bool), np.arange(4.0)) is None


def test_a_million_samples_are_fast():
    """The interval of a million values of 0 or 1 has the width of the normal approximation."""
    interval = metrics.bootstrap_mean(np.arange(1_000_000) % 4 > 0, CONFIG)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * np.sqrt(0.75 * 0.25 / 1e6), rel=0.15)
