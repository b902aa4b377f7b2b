"""Cross-fitted scores: every sample is scored by a head that did not see it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from mgap_cli.errors import UnfitError
from mgap_cli.gap.held_out import cross_fitted_probabilities, held_out_scores
from mgap_cli.gap.scores import scores_of
from mgap_cli.model.inference import Predictions

IDS, CLASSES = [f"s{i}" for i in range(300)], ("a", "b", "c")
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 300)
MEANS = RNG.normal(size=(3, 4))
TELLING = (MEANS[LABELS] + RNG.normal(0, 0.5, (300, 4))).astype(np.float32)
NOISE = RNG.normal(size=(300, 4)).astype(np.float32)


def predictions(audio: np.ndarray, visual: np.ndarray, labels: np.ndarray = LABELS) -> Predictions:
    certain = np.full((len(labels), 3), 0.05)
    certain[np.arange(len(labels)), labels] = 0.9  # heads that have memorised every sample
    heads = {"fused": certain, "audio": certain, "visual": certain}
    return Predictions(np.arange(len(labels)), labels, heads, {"audio": audio, "visual": visual})


def scores_held_out(predicted: Predictions, groups: list[str] | None = None):
    columns = {} if groups is None else {"group": groups}
    return held_out_scores(predicted, scores_of(predicted, IDS, CLASSES, columns))


def test_each_fold_is_scored_by_a_head_fitted_to_the_others():
    fold = np.arange(300) % 3
    probabilities = cross_fitted_probabilities(TELLING.astype(np.float64), LABELS, 3, fold)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    for k in range(3):
        scaler = StandardScaler().fit(TELLING[fold != k])
        head = LogisticRegression(max_iter=1000).fit(scaler.transform(TELLING[fold != k]), LABELS[fold != k])
        expected = head.predict_proba(scaler.transform(TELLING[fold == k]))
        np.testing.assert_allclose(probabilities[fold == k], expected, atol=1e-3)


def test_informative_features_keep_their_scores_and_noise_loses_them():
    scores = scores_held_out(predictions(TELLING, NOISE))
    assert scores.p["audio"].mean() > 0.7
    assert scores.p["visual"].mean() == pytest.approx(1 / 3, abs=0.03)
    assert (scores.predicted["audio"] == LABELS).mean() > 0.8
    assert (scores.predicted["fused"] == LABELS).all() and scores.p_fused == pytest.approx(0.9)


def test_the_samples_of_a_group_are_held_out_together():
    """Each speaker says only one word, so features of a speaker give no information about another one."""
    speaker = np.repeat(np.arange(60), 5)
    labels = np.random.default_rng(1).integers(0, 3, 60)[speaker]
    voices = np.random.default_rng(2).normal(size=(60, 100))[speaker].astype(np.float32)
    predicted = predictions(voices, voices, labels)
    divided = scores_held_out(predicted).p["audio"].mean()
    together = scores_held_out(predicted, [f"speaker {s}" for s in speaker]).p["audio"].mean()
    assert divided > 0.8 and together < 0.45


def test_a_class_that_no_other_fold_has_gets_no_probability():
    labels = np.array([0, 0, 0, 1, 1, 2])
    fold = np.array([0, 1, 2, 0, 1, 2])
    probabilities = cross_fitted_probabilities(np.random.default_rng(0).normal(size=(6, 2)), labels, 3, fold)
    assert probabilities[5, 2] == 0 and probabilities.sum(axis=1) == pytest.approx(1)


def test_one_group_cannot_be_held_out():
    with pytest.raises(UnfitError, match="Nothing can be held out"):
        scores_held_out(predictions(TELLING, NOISE), ["only"] * 300)
