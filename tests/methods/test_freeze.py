"""freeze: the encoder that is better on validation does not change in a window of the budget."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.methods import built, configured
from helpers.steps import BUDGET, TOLERANCE, gradients_of, image_exercise

from mgap_cli.errors import UsageError
from mgap_cli.methods.base import BudgetEpoch
from mgap_cli.model.inference import Predictions

SIZE = 6


@dataclass
class Validated:
    """The start of an epoch at which, by modality, this many of SIZE validation samples are right."""

    right: dict[str, int]
    budget_epoch: BudgetEpoch

    def predictions(self, split: str = "train") -> Predictions:
        assert split == "val"
        labels = np.arange(SIZE) % 3
        chosen = {m: np.where(np.arange(SIZE) < n, labels, (labels + 1) % 3) for m, n in self.right.items()}
        return Predictions(np.arange(SIZE), labels, {m: np.eye(3)[c] for m, c in chosen.items()}, {})


@pytest.mark.parametrize(("audio", "visual", "frozen"), [(5, 2, "audio"), (1, 4, "visual"), (3, 3, "audio")])
def test_one_step_is_joint_heads_without_the_stronger_encoder(audio, visual, frozen):
    ex = image_exercise("freeze")
    ex.method.on_epoch_start(Validated({"audio": audio, "visual": visual}, BudgetEpoch(3, BUDGET)))
    ex.before.train().encoders[frozen].eval()
    loss = sum(F.cross_entropy(z, ex.batch.labels) for z in ex.before(ex.batch.inputs).logits.values())
    kept = {n: g for n, g in gradients_of(loss, ex.before).items() if not n.startswith(f"encoders.{frozen}.")}
    step = ex.step(3)
    torch.testing.assert_close(step.loss, loss.detach(), **TOLERANCE)
    ex.assert_gradients(kept)
    ex.assert_updated(kept)
    before = ex.before.encoders[frozen].state_dict()
    assert all(torch.equal(v, before[k]) for k, v in ex.network.encoders[frozen].state_dict().items())
    assert ex.method.epoch_record(BudgetEpoch(3, BUDGET)) == {"frozen": frozen}


def test_the_window_is_a_share_of_the_budget():
    method = built("freeze", configured(freeze__start=0.2, freeze__end=0.5))
    trained_epochs = []
    for index in range(10):
        method.on_epoch_start(Validated({"audio": 5, "visual": 2}, BudgetEpoch(index, 10)))
        trained_epochs.append(method.epoch_record(BudgetEpoch(index, 10))["frozen"])
    assert trained_epochs == [None] * 2 + ["audio"] * 3 + [None] * 5


def test_an_empty_window_is_refused():
    with pytest.raises(UsageError, match=r"freeze\.start"):
        built("freeze", configured(freeze__start=0.5, freeze__end=0.5))
