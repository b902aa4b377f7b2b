"""G-Blend's weights and loss compared with the formula, and its copies in a run of the program."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.program import TINY, metrics, mgap, sets
from helpers.steps import CLASSES, TOLERANCE, exercise, gradients_of

from mgap_cli.model.inference import Predictions
from mgap_cli.model.network import MultimodalNetwork
from mgap_cli.training.trained_model import open_trained


def reference(losses: dict[str, tuple[float, float]], classes: int) -> dict[str, float]:
    """Return the weights for each head's losses on train and validation."""
    gains = {k: max(0.0, math.log(classes) - val) for k, (_, val) in losses.items()}
    ratios = {k: gains[k] / max(0.01, abs(val - train)) ** 2 for k, (train, val) in losses.items()}
    total = sum(ratios.values())
    return {k: r / total if total else 1 / len(ratios) for k, r in ratios.items()}


@dataclass
class Start:
    """The start of an epoch at which every copy has given losses of its own head, and high ones of others."""

    losses: dict[str, tuple[float, float]]
    copies: dict[str, MultimodalNetwork]
    epoch: int = 0

    def predictions(self, split: str = "train", network: MultimodalNetwork | None = None) -> Predictions:
        head = next(k for k, copy in self.copies.items() if copy is network)
        mean = self.losses[head][("train", "val").index(split)]
        rows = {k: np.zeros((2, CLASSES)) for k in self.losses}
        # Two samples of different losses; the other heads give the classes no probability.
        rows[head][[0, 1], [1, 3]] = np.exp([-mean - 0.1, -mean + 0.1])
        return Predictions(np.arange(2), np.array([1, 3]), rows)


CASES = {
    "a copy that overfits counts less": {"fused": (0.2, 0.6), "m0": (0.5, 0.6), "m1": (0.9, 1.0)},
    "a copy that learned nothing counts nothing": {"fused": (0.2, 0.6), "m0": (0.5, 1.5), "m1": (0.9, 1.2)},
    "hardly any overfitting": {"fused": (0.6, 0.601), "m0": (0.6, 0.6), "m1": (0.5, 0.9)},
    "no copy learned": {"fused": (0.5, 1.5), "m0": (0.5, 1.6), "m1": (0.5, 1.7)},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("modalities", [2, 3])
def test_weights_and_steps_are_the_formula(modalities, case):
    ex = exercise("gblend", modalities)
    losses = case if modalities == 2 else {**case, "m2": (0.4, 0.7)}
    copies = {head: exercise("gblend", modalities, seed=i).network for i, head in enumerate(losses)}
    ex.method.on_stage_start({f"copy-{head}": copy for head, copy in copies.items()})
    assert len(ex.method.on_epoch_start(Start(losses, copies))) == modalities + 1
    weights = reference(losses, CLASSES)
    assert ex.method.epoch_record(None) == {"weights": pytest.approx(weights, rel=1e-10)}
    assert sum(weights.values()) == pytest.approx(1)
    assert ex.method.on_epoch_start(Start(losses, copies, epoch=1)) == []
    assert ex.method.epoch_record(None) == {"weights": pytest.approx(weights, rel=1e-10)}

    outputs = ex.before.train()(ex.batch.inputs)
    loss = sum(w * F.cross_entropy(outputs.logits[k], ex.batch.labels) for k, w in weights.items())
    torch.testing.assert_close(ex.step().loss, loss.detach(), **TOLERANCE)
    ex.assert_gradients(gradients_of(loss, ex.before))
    ex.assert_updated(gradients_of(loss, ex.before))


def line(store, run, epochs=6):
    return ["train", store, "--method", "gblend", "-o", run, *sets(*TINY), "--epochs", epochs]


def test_the_copies_decide_the_weights(store, tmp_path):
    run = tmp_path / "run"
    done = mgap(*line(store, run), *sets("gblend.copies=0.34", "train.select=last"))
    assert done.code == 0 and done.out == f"{run / 'train.pt'}\n", done.err
    losses = {}
    for head, method in (("fused", "joint"), ("audio", "unimodal"), ("visual", "unimodal")):
        assert [entry["epoch"] for entry in metrics(run, f"copy-{head}")] == [1, 2]
        copy = open_trained(run / f"copy-{head}.pt", torch.device("cpu"))
        assert copy.checkpoint.method == method and copy.heads[0] == head
        predicted = [copy.predict(split) for split in ("train", "val")]
        true = [of.probabilities[head][np.arange(len(of.labels)), of.labels] for of in predicted]
        losses[head] = tuple(-np.log(p).mean() for p in true)
    weights = reference(losses, len(copy.checkpoint.classes))
    for entry in metrics(run, "train"):
        assert entry["weights"] == pytest.approx(weights, rel=1e-3)
    assert len(metrics(run, "train")) == 2
    evaluated = mgap("evaluate", run, *sets("evaluate.bootstrap=50"))
    assert evaluated.code == 0 and "taking train.pt" in evaluated.err
    assert mgap("analyze-gap", run / "train.pt").code == 0


def test_a_budget_that_leaves_no_epoch_is_refused(store, tmp_path):
    mgap(*line(store, tmp_path / "run", 2)).fails(2, "gblend.copies", "--epochs")


@pytest.mark.parametrize("method", ["gblend", "umt"])
def test_a_single_stage_cannot_use_it(method, store, run, tmp_path):
    hint = f"mgap train STORE --method {method}"
    mgap("warmup", store, "--method", method, "-o", tmp_path / "run").fails(2, hint)
    mgap("adapt", run / "warmup.pt", "--method", method).fails(2, hint)
