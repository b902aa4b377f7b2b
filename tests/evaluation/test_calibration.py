"""Reliability bins and their summaries, compared with loops, scikit-learn and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as sk

from mgap_cli.config import EvaluateConfig
from mgap_cli.evaluation import metrics
from mgap_cli.evaluation.calibration import reliability

CONFIG = EvaluateConfig(bootstrap=400)


def calibrated(n: int, classes: int = 6, temperature: float = 1.0, seed: int = 0):
    """Draw labels from the probabilities; a temperature under 1 then makes these too low in confidence."""
    generator = np.random.default_rng(seed)
    p = np.exp(1.5 * generator.normal(size=(n, classes)))
    p /= p.sum(axis=1, keepdims=True)
    labels = (p.cumsum(axis=1) > generator.random((n, 1))).argmax(axis=1)
    p **= temperature
    return labels, p / p.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_ece_by_a_loop_over_samples(bins: int):
    labels, p = calibrated(300, temperature=2)
    members: dict[int, list[tuple[float, bool]]] = {}
    for row, label in zip(p.tolist(), labels.tolist(), strict=True):
        confidence = max(row)
        members.setdefault(math.ceil(confidence * bins), []).append(
            (confidence, row.index(confidence) == label)
        )
    ece = sum(abs(sum(right - c for c, right in inside)) for inside in members.values()) / 300
    result = reliability(labels, p, bins)
    assert result.ece == pytest.approx(ece)
    assert result.counts == tuple(len(members.get(b, ())) for b in range(1, bins + 1))
    assert result.mean_confidence == pytest.approx(p.max(axis=1).mean())
    empty = [i for i, n in enumerate(result.counts) if n == 0]
    assert all(result.accuracy[i] is None and result.confidence[i] is None for i in empty)


def test_bins_are_closed_above():
    p = np.array([[1.0, 0.0], [0.5, 0.5], [0.6, 0.4], [0.75, 0.25]])
    assert reliability(np.zeros(4, dtype=np.int64), p, 4).counts == (0, 1, 2, 1)


def test_the_perfect_and_the_confidently_wrong():
    p = np.eye(3)[[0, 1, 2, 0]]
    assert reliability(np.array([0, 1, 2, 0]), p, 15).ece == 0
    assert reliability(np.array([1, 2, 0, 1]), p, 15).ece == 1
    assert metrics.bootstrap_ece(np.array([0, 1, 2, 0]), p, CONFIG) == metrics.Interval(0, 0)


def test_the_interval_covers_the_truth_of_a_miscalibrated_model():
    truth = reliability(*calibrated(300_000, temperature=2), 15).ece
    inside = 0
    for seed in range(60):
        interval = metrics.bootstrap_ece(*calibrated(600, temperature=2, seed=seed), CONFIG)
        inside += interval.low <= truth <= interval.high
    assert inside >= 50  # of 60; 57 expected


def test_the_interval_of_a_calibrated_model_reaches_down():
    """The estimate is biased upwards; its interval must not be above it, as the percentile interval is."""
    labels, p = calibrated(400)
    interval = metrics.bootstrap_ece(labels, p, CONFIG)
    assert interval.low < 0.02 < reliability(labels, p, 15).ece


def test_balanced_accuracy_top_k_and_confusion_agree_with_scikit_learn():
    generator = np.random.default_rng(1)
    labels = generator.choice(8, size=300, p=[0.5, 0.2, 0.1, 0.1, 0.04, 0.03, 0.02, 0.01])
    p = generator.dirichlet(np.ones(8), size=300)
    p[np.arange(300), labels] += 0.2
    predicted = p.argmax(axis=1)
    m = metrics.head_metrics(labels, p, EvaluateConfig(bootstrap=50, top_k=3))
    assert m.balanced_accuracy == pytest.approx(sk.balanced_accuracy_score(labels, predicted))
    assert m.top_k.accuracy == pytest.approx(sk.top_k_accuracy_score(labels, p, k=3, labels=range(8)))
    assert m.confusion == tuple(map(tuple, sk.confusion_matrix(labels, predicted, labels=range(8)).tolist()))
    assert (metrics.top_k_correct(labels, p, 1) == (predicted == labels)).all()
    assert metrics.top_k_correct(labels, p, 8).all()


def test_equal_probabilities_rank_as_argmax_ranks_them():
    p = np.full((3, 3), 1 / 3)
    assert metrics.top_k_correct(np.array([0, 1, 2]), p, 2).tolist() == [True, True, False]


@pytest.mark.parametrize(("classes", "has"), [(5, False), (6, True)])
def test_top_k_is_left_out_if_it_is_always_1(classes: int, has: bool):
    labels, p = calibrated(50, classes)
    assert (metrics.head_metrics(labels, p, EvaluateConfig(bootstrap=10)).top_k is not None) == has


def test_interval_of_balanced_accuracy_agrees_with_resampled_scikit_learn():
    """With many samples of each class; the interval's coverage with few is in test_metrics.py."""
    generator = np.random.default_rng(3)
    labels = generator.choice(4, size=800, p=[0.6, 0.2, 0.15, 0.05])
    predicted = np.where(generator.random(800) < 0.6, labels, generator.integers(0, 4, 800))
    ours = metrics.balanced_accuracy_interval(labels, predicted, EvaluateConfig())
    draws = []
    for _ in range(1_500):
        rows = generator.integers(0, 800, 800)
        draws.append(
            sk.recall_score(labels[rows], predicted[rows], average="macro", labels=np.unique(labels[rows]))
        )
    assert (ours.low, ours.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=0.01)
