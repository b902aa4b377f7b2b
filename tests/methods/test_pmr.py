"""PMR's prototypes and its loss against the formula."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.steps import CLASSES, TOLERANCE, Exercise, exercise, gradients_of

from mgap_cli.model.inference import Predictions

SIZE = 40


@dataclass
class FeaturesOf:
    """The start of an epoch with given features."""

    given: Predictions
    epoch: int = 0

    def predictions(self, split: str = "train") -> Predictions:
        assert split == "train"
        return self.given


def predicted(ex: Exercise, seed: int, classes: int = CLASSES) -> Predictions:
    draw = np.random.default_rng(seed)
    labels = np.arange(SIZE) % classes
    features = {m: draw.normal(size=(SIZE, 5)).astype(np.float32) for m in ex.network.encoders}
    return Predictions(np.arange(SIZE), labels, {}, features)


def means(predictions: Predictions) -> dict[str, np.ndarray]:
    return {
        m: np.stack([f[predictions.labels == k].astype(np.float64).mean(axis=0) for k in range(CLASSES)])
        for m, f in predictions.features.items()
    }


@pytest.mark.parametrize("momentum", [0.2, 0.9])
def test_prototypes_are_class_means_that_keep_a_share_of_the_old(momentum):
    ex = exercise("pmr", pmr__momentum=momentum)
    expected = None
    for seed in range(3):
        given = predicted(ex, seed)
        ex.method.on_epoch_start(FeaturesOf(given))
        new = means(given)
        expected = new if expected is None else {
            m: (1 - momentum) * new[m] + momentum * expected[m] for m in new
        }  # fmt: skip
        for m, wanted in expected.items():
            torch.testing.assert_close(
                getattr(ex.method, f"prototypes_{m}"), torch.from_numpy(wanted), **TOLERANCE
            )


def reference(ex: Exercise, prototypes: dict[str, np.ndarray], settings, entropy_on: bool) -> torch.Tensor:
    """The formula of the docstring, by loops over samples and classes."""
    outputs, y = ex.before.train()(ex.batch.inputs), ex.batch.labels
    sims = []
    for m, f in outputs.features.items():
        centres = torch.from_numpy(prototypes[m])
        rows = [[-((row - c) ** 2).sum().sqrt() for c in centres] for row in f]
        sims.append(torch.stack([torch.stack(row) for row in rows]))
    score = [sum(torch.softmax(sim, 1)[i, k].item() for i, k in enumerate(y)) for sim in sims]
    slow = int(np.argmin(score))
    lead = score[1 - slow] / score[slow]
    w = 1.0 if settings.coefficient == "step" else min(1.0, lead - 1)
    p = torch.softmax(sims[1 - slow], 1)
    entropy = -(p * p.log()).sum(1).mean()
    loss = F.cross_entropy(outputs.fused, y) + settings.alpha * w * F.cross_entropy(sims[slow], y)
    if entropy_on:
        loss = loss - settings.entropy * w * entropy
    return loss + sum(F.cross_entropy(z, y) for z in outputs.unimodal.values())


@pytest.mark.parametrize("coefficient", ["clipped", "step"])
@pytest.mark.parametrize("epoch", [0, 8])
def test_a_step_is_the_formulas(coefficient, epoch):
    for seed in range(3):
        settings = {"pmr.alpha": 0.7, "pmr.coefficient": coefficient, "pmr.entropy": 0.3}
        ex = exercise("pmr", seed=seed, **settings)
        given = predicted(ex, seed)
        ex.method.on_epoch_start(FeaturesOf(given))
        loss = reference(ex, means(given), ex.method.settings, entropy_on=epoch < 5)
        gradients = gradients_of(loss, ex.before)
        assert ex.step(epoch).loss.item() == pytest.approx(loss.item(), rel=1e-10)
        ex.assert_gradients(gradients)
        ex.assert_updated(gradients)


def test_a_class_without_training_samples_is_left_out_of_every_softmax():
    ex = exercise("pmr")
    ex.batch.labels.clamp_(max=CLASSES - 2)
    ex.method.on_epoch_start(FeaturesOf(predicted(ex, 0, CLASSES - 1)))
    assert ex.method.present.tolist() == [True] * (CLASSES - 1) + [False]
    before = ex.step().loss.item()
    ex.method.prototypes_m0[-1] = 1e3
    again = exercise("pmr")
    again.batch.labels.clamp_(max=CLASSES - 2)
    again.method.load_state_dict(ex.method.state_dict())
    assert again.step().loss.item() == pytest.approx(before, rel=1e-12)
