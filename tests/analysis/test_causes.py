"""The diagnosis of why a modality lags, on scores whose cause is known by construction."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from helpers.screen import printed

from mgap_cli.analysis.causes import ModalityCause, diagnose
from mgap_cli.gap.scores import Scores
from mgap_cli.report.tables.causes import causes_table

CLASSES = tuple("0123456789")


def scores(n: int, audio: float, visual: float, seed: int = 0) -> Scores:
    """Return scores whose mean p of the true class is near the given values."""
    rng = np.random.default_rng(seed)

    def around(mean: float) -> np.ndarray:
        return rng.beta(4 * mean, 4 * (1 - mean), n)

    labels = rng.integers(0, 10, n)
    p = {"audio": around(audio), "visual": around(visual)}
    predicted = {name: np.where(values > 0.5, labels, (labels + 1) % 10) for name, values in p.items()}
    return Scores([str(i) for i in range(n)], CLASSES, labels, p, predicted)


@pytest.mark.parametrize(
    ("train", "held_out", "cause"),
    [
        (0.11, 0.10, "uninformative"),
        (0.60, 0.10, "memorised"),
        (0.90, 0.35, "memorised"),
        (0.40, 0.33, "late"),
        (0.75, 0.68, "balanced"),
        (0.95, 0.90, "balanced"),
    ],
)
def test_the_cause_of_known_scores(train, held_out, cause):
    training, cross = scores(1000, 0.8, train), scores(1000, 0.8, 0.9, seed=1)
    audio, visual = diagnose(training, cross, scores(150, 0.7, held_out, seed=2), 0.95)
    assert audio.cause == ("balanced" if held_out < 0.9 else "late")  # the other one may be ahead of it
    assert visual.cause == cause and f"visual is {cause}" in visual.sentence
    assert f"{visual.training.mean:.3f} on train, {visual.held_out.mean:.3f} validation" in visual.sentence
    document = json.loads(json.dumps(visual.to_dict()))
    assert ModalityCause.from_dict(document) == visual
    assert document["cause"] == cause and document["sentence"] == visual.sentence
    assert document["validation"]["n"] == 150 and document["training"]["n"] == 1000


def test_without_validation_the_cross_fitted_scores_decide():
    training = scores(1000, 0.8, 0.7)
    _, visual = diagnose(training, scores(1000, 0.7, 0.1, seed=1), None, 0.95)
    assert visual.cause == "memorised" and visual.validation is None and "cross-fitted" in visual.sentence
    assert ModalityCause.from_dict(visual.to_dict()) == visual
    text = printed(causes_table(diagnose(training, training, None, 0.95), 0.95))
    assert "There is no validation split" in text and "95 % intervals" in text
    assert max(map(len, text.splitlines())) <= 80


def test_no_cause_depends_on_the_order_of_the_modalities():
    def turned(s: Scores) -> Scores:
        return dataclasses.replace(s.of_modalities(["visual", "audio"]))

    tables = scores(800, 0.8, 0.5), scores(800, 0.8, 0.4, seed=1), scores(120, 0.7, 0.12, seed=2)
    one = {m.modality: m.cause for m in diagnose(*tables, 0.95)}
    two = {m.modality: m.cause for m in diagnose(*map(turned, tables), 0.95)}
    assert one == two == {"audio": "balanced", "visual": "memorised"}
