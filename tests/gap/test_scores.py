"""The scores per sample: which values are refused, and how a pass over the samples makes them."""

from __future__ import annotations

import numpy as np
import pytest

from mgap_cli.errors import ExitCode, UnfitError
from mgap_cli.gap.scores import Scores, scores_of, true_class_probability
from mgap_cli.model.inference import Predictions


def scores(audio: list[float], visual: list[float]) -> Scores:
    ids = [str(i) for i in range(len(audio))]
    labels = np.zeros(len(audio), dtype=np.int64)
    return Scores(ids, ("a", "b"), labels, {"audio": np.array(audio), "visual": np.array(visual)})


def test_gap_is_signed_audio_minus_visual():
    np.testing.assert_allclose(scores([0.9, 0.2, 0.5], [0.1, 0.7, 0.5]).gap, [0.8, -0.5, 0.0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("modality", ["audio", "visual"])
def test_scores_that_are_not_finite_are_counted_and_refused(bad, modality):
    columns = {"audio": [0.5, 0.5, 0.5], "visual": [0.5, 0.5, 0.5]}
    columns[modality][:2] = [bad, bad]
    with pytest.raises(UnfitError, match=f"2 of 3 {modality} scores are NaN or infinite") as caught:
        scores(**columns)
    assert caught.value.exit_code == ExitCode.UNFIT


@pytest.mark.parametrize("bad", [-0.1, 1.1, 55.0])
@pytest.mark.parametrize("modality", ["audio", "visual"])
def test_scores_out_of_range_are_counted_and_refused(bad, modality):
    columns = {"audio": [0.0, 1.0], "visual": [1.0, 0.0]}
    columns[modality][1] = bad
    with pytest.raises(UnfitError, match=rf"1 of 2 {modality} scores lie outside \[0, 1\]"):
        scores(**columns)


def test_a_rounding_error_above_one_is_accepted():
    over = float(np.nextafter(np.float32(1), np.float32(2)))
    assert len(scores([over], [0.0])) == 1


def test_true_class_probability_picks_each_samples_own_class():
    table = np.array([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]])
    np.testing.assert_array_equal(true_class_probability(table, np.array([2, 0])), [0.7, 0.5])


def test_scores_of_predictions_keep_ids_and_predicted_classes_together():
    tables = {
        "fused": np.array([[0.9, 0.1], [0.2, 0.8]]),
        "audio": np.array([[0.4, 0.6], [0.3, 0.7]]),
        "visual": np.array([[0.8, 0.2], [0.6, 0.4]]),
    }
    made = scores_of(
        Predictions(index=np.array([2, 0]), labels=np.array([0, 1]), probabilities=tables),
        ["zero", "one", "two"],
        ("a", "b"),
    )
    assert made.ids == ["two", "zero"]
    np.testing.assert_allclose(made.p["audio"], [0.4, 0.7])
    np.testing.assert_allclose(made.p["visual"], [0.8, 0.4])
    assert {head: p.tolist() for head, p in made.predicted.items()} == {
        "fused": [0, 1],
        "audio": [1, 1],
        "visual": [0, 0],
    }
