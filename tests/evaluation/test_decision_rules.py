"""Every decision rule against a reference that is computed another way."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from scipy import optimize, special

from mgap_cli.config import RULES
from mgap_cli.errors import UnfitError, UsageError
from mgap_cli.evaluation.cross_fitting import cross_fitted
from mgap_cli.evaluation.decision_rules import listed_rules, load_rule
from mgap_cli.evaluation.decision_rules.auto import Auto
from mgap_cli.evaluation.decision_rules.base import DecisionRule
from mgap_cli.model.fusions.late_entropy import LateEntropy
from mgap_cli.stats.folds import folds_of
from mgap_cli.stats.opinion_pool import log_probabilities

SKILLS = {"fused": 1.2, "audio": 1.5, "visual": 0.4}
EVERY = RULES.names()
LEARNING = [rule.name for rule in listed_rules() if rule.learns]


def sample(n=120, classes=4, skills=SKILLS, seed=0, scale=1.0):
    """Labels (N,), and log-probabilities (N, C) of heads with different skills."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, n)
    logits = {
        h: scale * (draw.normal(size=(n, classes)) + skill * np.eye(classes)[labels])
        for h, skill in skills.items()
    }
    return {h: special.log_softmax(z, axis=1) for h, z in logits.items()}, labels


HEADS, LABELS = sample()
P = {head: np.exp(log_p) for head, log_p in HEADS.items()}


def combined(name, heads=HEADS, fit_on=(HEADS, LABELS)):
    return load_rule(name).fit(*fit_on).combine(heads)


def test_the_rules_are_these():
    assert [rule.name for rule in listed_rules()] == [
        *("fused", "entropy", "mean", "mean-all", "product"),
        *("best", "calibrated", "stacked"),
    ]
    assert {*EVERY} == {"auto", *(rule.name for rule in listed_rules())}
    with pytest.raises(UsageError, match="unknown decision rule 'median'"):
        load_rule("median")


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("present", [("fused",), ("audio",), ("visual", "audio"), ("fused", "visual"), ()])
def test_probabilities_sum_to_one_whatever_heads_are_present(name, present):
    heads = {head: HEADS[head] for head in present}
    if not present:
        with pytest.raises(UnfitError, match="at least one head"):
            combined(name, heads)
        return
    p = combined(name, heads)
    assert p.shape == (120, 4) and (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_a_rule_of_one_head_decides_as_that_head(name):
    one = {"audio": HEADS["audio"]}
    p = combined(name, one, (one, LABELS))
    if name not in ("auto", "stacked"):  # the regression may correct the classes of a head
        np.testing.assert_array_equal(p.argmax(axis=1), P["audio"].argmax(axis=1))
    if name not in ("auto", "stacked", "calibrated"):
        np.testing.assert_allclose(p, P["audio"], rtol=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_extreme_confidence_gives_finite_probabilities(name):
    heads = log_probabilities(
        {h: np.where(p == p.max(axis=1, keepdims=True), 1.0, 0.0) for h, p in P.items()}
    )
    p = combined(name, heads, (heads, LABELS))
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-9)


def test_fused_and_the_means():
    np.testing.assert_allclose(combined("fused"), P["fused"], rtol=1e-12)
    for n, c in product(range(120), range(4)):
        two = math.fsum(P[h][n, c] for h in ("audio", "visual")) / 2
        three = math.fsum(P[h][n, c] for h in SKILLS) / 3
        assert combined_mean[n, c] == pytest.approx(two, rel=1e-12)
        assert combined_mean_all[n, c] == pytest.approx(three, rel=1e-12)


combined_mean, combined_mean_all = combined("mean"), combined("mean-all")


def test_product_is_the_posterior_of_independent_modalities():
    joint = P["audio"] * P["visual"]
    np.testing.assert_allclose(combined("product"), joint / joint.sum(axis=1, keepdims=True), rtol=1e-10)


def test_entropy_is_the_late_fusion_of_any_logits_with_these_probabilities():
    shifts = np.random.default_rng(1).normal(size=(2, 120, 1))
    logits = {m: torch.tensor(HEADS[m] + shift) for m, shift in zip(("audio", "visual"), shifts, strict=True)}
    fused = LateEntropy(dict.fromkeys(logits, 3), 4)(logits)
    np.testing.assert_allclose(combined("entropy"), torch.softmax(fused, dim=1).numpy(), rtol=1e-10)


def test_best_is_the_most_accurate_head_and_the_next_one_where_it_is_missing():
    shares = {h: np.mean(p.argmax(axis=1) == LABELS) for h, p in P.items()}
    order = sorted(shares, key=shares.get, reverse=True)
    np.testing.assert_allclose(combined("best"), P[order[0]], rtol=1e-12)
    rest = {h: HEADS[h] for h in order[1:]}
    np.testing.assert_allclose(combined("best", rest), P[order[1]], rtol=1e-12)


def test_best_prefers_fused_among_equals():
    equal = {"fused": HEADS["audio"], "audio": HEADS["audio"]}
    assert load_rule("best").fit(equal, LABELS).parameters() == {"ranking": ["fused", "audio"]}


@pytest.mark.parametrize(("scale", "seed"), [(1.0, 0), (6.0, 1), (0.2, 2)])
def test_calibrated_weights_are_the_optimum(scale, seed):
    heads, labels = sample(seed=seed, scale=scale)

    def objective(beta):
        z = sum(b * log_p for b, log_p in zip(beta, heads.values(), strict=True))
        nll = special.logsumexp(z, axis=1) - z[np.arange(len(labels)), labels]
        return nll.sum() + 0.5 * np.sum((np.asarray(beta) - 1 / 3) ** 2)

    weights = np.array([*load_rule("calibrated").fit(heads, labels).parameters().values()])
    other = optimize.minimize(
        objective, [1.0, 1.0, 1.0], method="SLSQP", bounds=[(0, None)] * 3, options={"ftol": 1e-12}
    )
    assert other.success
    np.testing.assert_allclose(weights, other.x, atol=2e-3)
    assert objective(weights) <= other.fun + 1e-6


def test_calibrated_gives_a_useless_head_no_weight_and_tempers_overconfidence():
    heads, labels = sample(n=2000, skills={"fused": 2.0, "audio": -0.5}, scale=8.0)
    weights = load_rule("calibrated").fit(heads, labels).parameters()
    assert weights["weight.audio"] == 0
    assert 0 < weights["weight.fused"] < 0.5


def test_calibrated_finds_the_weights_that_made_the_labels():
    draw = np.random.default_rng(5)
    heads = {h: special.log_softmax(draw.normal(size=(40_000, 3)) * 2, axis=1) for h in ("a", "b")}
    truth = special.softmax(0.7 * heads["a"] + 0.2 * heads["b"], axis=1)
    labels = (draw.random((40_000, 1)) > truth.cumsum(axis=1)).sum(axis=1)
    weights = load_rule("calibrated").fit(heads, labels).parameters()
    assert weights["weight.a"] == pytest.approx(0.7, abs=0.03)
    assert weights["weight.b"] == pytest.approx(0.2, abs=0.03)


def test_stacked_is_the_optimum_of_its_objective():
    heads, labels = sample(n=60, classes=3)
    x = np.concatenate([log_p - log_p.mean(axis=1, keepdims=True) for log_p in heads.values()], axis=1)
    start, strength = np.tile(np.eye(3), 3) / 3, 9 * np.mean(x**2)

    def objective(flat):
        weights, bias = flat[:27].reshape(3, 9), flat[27:]
        z = x @ weights.T + bias
        nll = special.logsumexp(z, axis=1) - z[np.arange(60), labels]
        return nll.sum() + 0.5 * (strength * np.sum((weights - start) ** 2) + np.sum(bias**2))

    other = optimize.minimize(objective, np.zeros(30), method="BFGS", options={"gtol": 1e-5})
    rule = load_rule("stacked").fit(heads, labels)
    parameters = np.concatenate([np.concatenate([*rule.weights.values()], axis=1).ravel(), rule.bias])
    np.testing.assert_allclose(parameters, other.x, atol=2e-3)
    z = x @ other.x[:27].reshape(3, 9).T + other.x[27:]
    np.testing.assert_allclose(rule.combine(heads), special.softmax(z, axis=1), atol=2e-3)


def test_stacked_of_few_samples_is_the_geometric_mean_and_learns_confusions_from_many():
    one = {h: log_p[:1] for h, log_p in HEADS.items()}
    few = load_rule("stacked").fit(one, LABELS[:1]).combine(HEADS)
    mean = special.softmax(np.mean([*HEADS.values()], axis=0), axis=1)
    assert np.abs(few - mean).max() < 0.3
    draw = np.random.default_rng(3)
    labels = draw.integers(0, 3, 600)
    swapped = {"fused": special.log_softmax(3 * np.eye(3)[(labels + 1) % 3] + draw.normal(size=(600, 3)), 1)}
    learned = load_rule("stacked").fit(swapped, labels).combine(swapped)
    assert np.mean(learned.argmax(axis=1) == labels) > 0.9


def test_stacked_takes_classes_without_validation_samples():
    heads, labels = sample(n=50, classes=5)
    p = load_rule("stacked").fit(heads, np.minimum(labels, 2)).combine(heads)
    assert p.shape == (50, 5) and np.isfinite(p).all()


@pytest.mark.parametrize("n", [2, 3, 5, 7, 53])
def test_folds_are_even_by_class_and_none_is_empty(n):
    labels = np.random.default_rng(n).integers(0, 3, n)
    folds = folds_of(labels)
    sizes = np.bincount(folds)
    assert len(sizes) == min(5, n) and sizes.min() >= 1 and np.ptp(sizes) <= 1
    for c in np.unique(labels):
        assert np.ptp(np.bincount(folds[labels == c], minlength=len(sizes))) <= 1
    np.testing.assert_array_equal(folds, folds_of(labels))


class Memory(DecisionRule):
    """Remembers the labels of the samples to which it was fitted, so that it is always right on them."""

    learns = True

    def __init__(self, known):
        self.known = known

    @classmethod
    def fit(cls, heads, labels):
        return cls({row.tobytes(): label for row, label in zip(heads["fused"], labels, strict=True)})

    def combine(self, heads):
        rows = heads["fused"]
        return np.eye(rows.shape[1])[[self.known.get(row.tobytes(), 0) for row in rows]]


def test_cross_fitting_never_judges_a_rule_on_what_it_was_fitted_on():
    assert np.mean(Memory.fit(HEADS, LABELS).combine(HEADS).argmax(axis=1) == LABELS) == 1
    assert (cross_fitted(Memory, HEADS, LABELS).argmax(axis=1) == 0).all()


@pytest.mark.parametrize("name", LEARNING)
def test_cross_fitting_is_the_same_as_leaving_each_fold_out_by_hand(name):
    decided, folds = cross_fitted(load_rule(name), HEADS, LABELS), folds_of(LABELS)
    for k in range(5):
        kept = np.flatnonzero(folds != k)
        rule = load_rule(name).fit({h: HEADS[h][kept] for h in HEADS}, LABELS[kept])
        fold_heads = {h: HEADS[h][folds == k] for h in HEADS}
        np.testing.assert_array_equal(decided[folds == k], rule.combine(fold_heads))


def test_auto_takes_the_most_accurate_rule_on_validation():
    auto = Auto.fit(HEADS, LABELS)
    best = max(auto.accuracy.values())
    assert auto.accuracy[auto.chosen.name] == best > auto.accuracy["fused"]
    for rule in listed_rules():
        p = cross_fitted(rule, HEADS, LABELS)
        assert auto.accuracy[rule.name] == np.mean(p.argmax(axis=1) == LABELS)
    np.testing.assert_array_equal(auto.combine(HEADS), combined(auto.chosen.name))


def test_auto_takes_fused_where_all_rules_are_equally_right():
    sure, labels = sample(skills=dict.fromkeys(SKILLS, 40.0))
    assert Auto.fit(sure, labels).chosen.name == "fused"


def test_log_probabilities_of_zero_are_finite():
    logs = log_probabilities({"fused": np.array([[0.0, 1.0]])})["fused"]
    assert np.isfinite(logs).all() and logs[0, 1] == 0 and logs[0, 0] < -87
