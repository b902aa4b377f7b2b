"""The warnings about a fit: nothing learnt, a balanced component far from 0, two peaks inside one."""

from __future__ import annotations

import numpy as np
import pytest

from mgap_cli.config import AnalysisConfig
from mgap_cli.gap import GapFit, examine, measure
from mgap_cli.gap.cautions import memorised, two_peaks

FEW = AnalysisConfig(resamples=49)


def fitted(audio: np.ndarray, visual: np.ndarray, classes: int = 4) -> GapFit:
    labels = np.arange(len(audio)) % classes
    return measure(labels, audio=np.clip(audio, 0, 1), visual=np.clip(visual, 0, 1))


def cautions(fit: GapFit) -> str:
    return " ".join(examine(fit, FEW).warnings)


def two_groups(centre: float, n: int = 400, seed: int = 0) -> GapFit:
    """Samples to which both heads give about `centre`, and equally many imbalanced samples."""
    g = np.random.default_rng(seed)
    audio = np.concatenate([g.normal(centre, 0.05, n), g.normal(0.9, 0.03, n)])
    return fitted(audio, np.concatenate([g.normal(centre, 0.05, n), g.normal(0.2, 0.03, n)]))


def test_balanced_samples_of_which_nothing_was_learnt():
    sentence = cautions(two_groups(0.25))
    assert "no head is better than chance" in sentence and "chance is 1/4 = 0.250" in sentence
    assert "audio 0.248 (0.243 to 0.253), visual 0.248 (" in sentence
    assert "chance" in cautions(two_groups(0.1)), "confidently wrong is no better than chance either"
    assert not cautions(two_groups(0.6))


def test_one_head_that_has_learnt_is_enough():
    g = np.random.default_rng(0)
    audio = np.concatenate([g.normal(0.4, 0.03, 300), g.normal(0.95, 0.02, 300)])
    assert not cautions(fitted(audio, g.normal(0.25, 0.02, 600)))


def test_a_balanced_component_far_from_zero():
    g = np.random.default_rng(0)
    audio = np.concatenate([g.normal(0.6, 0.03, 300), g.normal(0.95, 0.02, 300)])
    sentence = cautions(fitted(audio, g.normal(0.06, 0.02, 600), classes=20))
    assert "the balanced component's mean gap is 0.54, far from 0" in sentence
    # The same holds if no mixture was fitted, so that every sample counts as balanced.
    assert "mean gap is 0.60" in cautions(fitted(np.full(30, 0.9), np.full(30, 0.3)))


def test_both_peaks_inside_one_component():
    g = np.random.default_rng(1)
    gap = np.concatenate([g.normal(0.03, 0.01, 1000), g.normal(0.12, 0.01, 1000), g.uniform(0.3, 1, 1500)])
    fit = fitted(0.98 - np.zeros(len(gap)), 0.98 - np.abs(gap))
    sentence = cautions(fit)
    assert "lie inside the balanced component" in sentence and "0.03 and 0.12" in sentence
    assert not cautions(two_groups(0.6)), "here each component has a peak of its own"


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_the_two_peaks_are_found_where_they_are(low):
    g = np.random.default_rng(0)
    peaks = two_peaks(np.concatenate([g.normal(0.2, 0.05, 500), g.normal(0.7, 0.08, 300)]), low)
    assert peaks == pytest.approx((0.2, 0.7), abs=0.04)


def test_training_gaps_far_below_held_out_ones_are_memorised():
    g = np.random.default_rng(0)
    train = fitted(g.normal(0.95, 0.02, 300), g.normal(0.93, 0.02, 300))
    val = fitted(g.normal(0.8, 0.1, 100), g.normal(0.4, 0.1, 100))
    caution = memorised(train, val, "train", "val", FEW)
    assert "has memorised train" in caution and "Analyse --split val" in caution
    assert memorised(val, train, "val", "train", FEW) == ""
    assert memorised(val, val, "val", "val", FEW) == ""
    one = fitted(np.array([0.9] * 2), np.array([0.1] * 2), classes=1)
    assert memorised(train, one, "train", "val", FEW), "equal gaps have an interval of no width"


def test_peaks_at_both_ends_and_no_peaks():
    gaps = np.random.default_rng(4).beta(0.6, 0.5, 3000)
    first, second = two_peaks(gaps, 0.0)
    assert first < 0.2 and second > 0.8
    assert two_peaks(np.full(50, 0.3), 0.0) is None
