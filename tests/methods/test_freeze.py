"""freeze: the stronger encoder, by validation, does not change in a window of the budget."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.methods import built, configured
from helpers.one_step import LABELS, assert_same_gradients, cross_entropy64, gradients_of, tiny_step
from helpers.program import TINY, assert_same_checkpoint, metrics, mgap, sets, start

from mgap_cli.errors import UsageError
from mgap_cli.methods.base import BudgetEpoch


def validated(audio: int, visual: int, index: int, budget: int = 10) -> SimpleNamespace:
    """An epoch's start at which so many of six validation samples are right."""
    labels = LABELS.numpy()

    def probabilities(right: int) -> np.ndarray:
        chosen = np.where(np.arange(6) < right, labels, (labels + 1) % 5)
        return np.eye(5)[chosen]

    def predictions(split: str) -> SimpleNamespace:
        assert split == "val"
        given = {"audio": probabilities(audio), "visual": probabilities(visual)}
        return SimpleNamespace(labels=labels, probabilities=given)

    return SimpleNamespace(budget_epoch=BudgetEpoch(index, budget), predictions=predictions)


@pytest.mark.parametrize(("audio", "visual", "frozen"), [(5, 2, "audio"), (1, 4, "visual")])
def test_one_step_is_joint_heads_without_the_stronger_encoder(audio, visual, frozen):
    step = tiny_step("freeze")
    step.method.on_epoch_start(validated(audio, visual, 3))
    encoder = step.network.encoders[frozen]
    encoder.eval()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    z = step.network(step.batch.inputs).logits
    expected = gradients_of(sum(map(cross_entropy64, z.values())), step.network)
    encoder.train()
    step.method.training_step(step)
    kept = {n: g for n, g in expected.items() if not n.startswith(f"encoders.{frozen}.")}
    assert_same_gradients(step.gradients(), kept)
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    assert step.method.epoch_record(BudgetEpoch(3, 10)) == {"frozen": frozen}


def test_the_window_is_a_share_of_the_budget():
    method = built("freeze", configured(freeze__start=0.2, freeze__end=0.5))
    found = []
    for index in range(10):
        method.on_epoch_start(validated(5, 2, index))
        found.append(method.epoch_record(BudgetEpoch(index, 10))["frozen"])
    assert found == [None] * 2 + ["audio"] * 3 + [None] * 5


def test_an_empty_window_is_refused():
    with pytest.raises(UsageError, match=r"freeze\.start"):
        built("freeze", configured(freeze__start=0.5, freeze__end=0.5))


def test_resumed_in_the_window_it_ends_with_the_same_weights(store, tmp_path):
    def line(run):
        return ["train", store, "--method", "freeze", "-o", run, *sets(*TINY), "--epochs", 4]

    assert mgap(*line(tmp_path / "whole")).code == 0
    running = start(*line(tmp_path / "run"), pause=(1, 3))
    running.until_paused()
    running.send(9)
    running.wait()
    assert mgap(*line(tmp_path / "run")).code == 0
    assert_same_checkpoint(tmp_path / "whole" / "train-last.pt", tmp_path / "run" / "train-last.pt")
    assert [bool(e["frozen"]) for e in metrics(tmp_path / "run", "train")] == [False, True, False, False]
