"""pooled: the joint layer and the heads learn, and weights fitted on validation decide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.methods import built, configured
from helpers.program import TINY, metrics, mgap, sets
from helpers.steps import ROWS as ROWS_OF_STEP
from helpers.steps import TOLERANCE, exercise, gradients_of

from mgap_cli.errors import UsageError
from mgap_cli.methods.base import BudgetEpoch
from mgap_cli.model.inference import Predictions
from mgap_cli.model.network import MultimodalNetwork
from mgap_cli.runs.checkpoint import load_checkpoint
from mgap_cli.training.trained_model import open_trained

ROWS, CLASSES = 300, 3


@pytest.mark.parametrize(
    ("modalities", "dropout", "coupling"), [(2, 0.5, 1.0), (2, 0.0, 0.0), (3, 0.3, 0.25), (3, 1.0, 1.0)]
)
def test_one_step_is_the_formula(modalities, dropout, coupling):
    ex = exercise("pooled", modalities, pooled__dropout=dropout, pooled__coupling=coupling)
    names, fusion, y = list(ex.before.encoders), ex.before.fusion.linear, ex.batch.labels
    features = {m: ex.before.encode(m, ex.batch.inputs[m]) for m in names}
    missing = torch.randint(modalities, (ROWS_OF_STEP,), generator=torch.Generator().manual_seed(1)).tolist()
    assert len(set(missing)) == modalities, "every modality is missing somewhere"
    without = [
        torch.cat([features[m][i] * (m != names[missing[i]]) for m in names]) for i in range(ROWS_OF_STEP)
    ]
    whole = F.cross_entropy(fusion(torch.cat([features[m] for m in names], dim=1)), y)
    dropped = F.cross_entropy(fusion(torch.stack(without)), y)
    joint = (1 - dropout) * whole + dropout * dropped
    unimodal = sum(F.cross_entropy(ex.before.head(m)(features[m]), y) for m in names)
    expected = gradients_of(unimodal, ex.before)
    for name, g in gradients_of(joint, ex.before).items():
        share = coupling if name.startswith("encoders.") else 1.0
        expected[name] = expected[name] + share * g if name in expected else share * g
    step = ex.step(epoch=1)
    torch.testing.assert_close(step.loss, (joint + unimodal).detach(), **TOLERANCE)
    ex.assert_gradients(expected)
    ex.assert_updated(expected)


def test_each_step_draws_the_missing_modality_again():
    losses = set()
    for epoch in range(6):
        ex = exercise("pooled", pooled__dropout=1.0)
        losses.add(ex.step(epoch).loss.item())
    assert len(losses) > 3


@dataclass
class EndOf:
    """The end of an epoch of a network, at which the validation split has given probabilities."""

    network: MultimodalNetwork
    opinions_of: dict[str, np.ndarray]
    labels: np.ndarray

    def predictions(self, split: str = "train") -> Predictions:
        assert split == "val"
        assert self.network.fusion.weights.tolist() == [1.0, 0.0, 0.0], "the joint layer must be seen alone"
        return Predictions(np.arange(len(self.labels)), self.labels, self.opinions_of)


def opinions(draw: np.random.Generator, labels: np.ndarray, shift: float, scale: float) -> np.ndarray:
    """Probabilities softmax(scale * z), with z normal and `shift` added for the true class."""
    z = scale * (draw.normal(size=(len(labels), CLASSES)) + shift * np.eye(CLASSES)[labels])
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def fitted(opinions_of: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, float]:
    ex = exercise("pooled")
    opinions_of = dict(zip(ex.method.heads, opinions_of.values(), strict=True))
    (line,) = ex.method.on_epoch_end(EndOf(ex.network, opinions_of, labels))
    pool = ex.method.epoch_record(BudgetEpoch(0, 10))["pool"]
    np.testing.assert_allclose(ex.network.fusion.weights.numpy(), list(pool.values()), rtol=1e-6)
    assert tuple(pool) == ("joint", "m0", "m1") and "joint" in line
    return dict(pool)


def test_the_weights_are_the_minimum_on_validation():
    """No small change of the weights lowers the objective, which the test computes from its formula."""
    draw = np.random.default_rng(0)
    labels = draw.integers(CLASSES, size=ROWS)
    opinions_of = {
        "j": opinions(draw, labels, 1, 1),
        "a": opinions(draw, labels, 2, 2),
        "v": opinions(draw, labels, 1, 1),
    }
    pool = np.array([*fitted(opinions_of, labels).values()])
    logs = np.log(np.stack([*opinions_of.values()]))

    def objective(beta: np.ndarray) -> float:
        z = torch.from_numpy(np.tensordot(beta, logs, axes=1))
        loss = F.cross_entropy(z, torch.from_numpy(labels), reduction="sum")
        return float(loss) + float(((beta - 1 / 3) ** 2).sum()) / 2

    best = objective(pool)
    for i in range(3):
        for change in (-0.01, 0.01):
            moved = pool + change * np.eye(3)[i]
            assert moved[i] < 0 or objective(moved) > best


def test_an_expert_that_is_sure_without_knowing_loses_its_weight():
    """Like a branch that memorised its training samples, it is confident but right by chance."""
    draw = np.random.default_rng(1)
    labels = draw.integers(CLASSES, size=ROWS)
    good, blind = opinions(draw, labels, 2, 1), opinions(draw, labels, 0, 8)
    pool = fitted({"j": blind, "a": good, "v": blind}, labels)
    assert pool["joint"] < 0.05 and pool["m1"] < 0.05 and pool["m0"] > 0.5


def test_the_decision_is_the_weighted_sum_of_the_logits():
    ex = exercise("pooled", 3)
    beta = torch.tensor([0.5, 0.0, 1.5, 0.2]).double()
    ex.network.fusion.weights.copy_(beta)
    outputs = ex.network.eval()(ex.batch.inputs)
    joint = ex.network.fusion.linear(torch.cat([*outputs.features.values()], dim=1))
    every = torch.stack([joint, *outputs.unimodal.values()])
    torch.testing.assert_close(outputs.fused, (beta[:, None, None] * every).sum(dim=0), **TOLERANCE)
    torch.testing.assert_close(ex.network.fuse(outputs.features), outputs.fused, **TOLERANCE)
    trained = ex.network.train()(ex.batch.inputs)
    joint = ex.network.fusion.linear(torch.cat([*trained.features.values()], dim=1))
    torch.testing.assert_close(trained.fused, joint, **TOLERANCE)


def test_the_checkpoint_has_the_weights_of_its_epoch(store, tmp_path):
    """Every command reads the same decision from it."""
    same = sets(*TINY, "train.epochs=3")
    assert mgap("train", store, "--method", "pooled", "-o", tmp_path, *same).code == 0
    model = open_trained(tmp_path / "train.pt", torch.device("cpu"))
    epoch = model.checkpoint.selected["epoch"]
    entry = metrics(tmp_path, "train")[epoch - 1]
    weights = model.network.fusion.weights.tolist()
    np.testing.assert_allclose(weights, [*entry["pool"].values()], rtol=1e-6)
    opinions_of = model.predict("val")
    accuracy = float((opinions_of.probabilities["fused"].argmax(1) == opinions_of.labels).mean())
    assert accuracy == pytest.approx(entry["val"]["fused"])
    assert mgap("evaluate", tmp_path / "train.pt", *sets("evaluate.bootstrap=50")).code == 0


def test_its_network_is_bit_for_bit_that_of_joint_heads(store, tmp_path):
    """Only the decision differs, and the epoch that it chooses; here the last epoch is kept."""
    same = sets(*TINY, "train.epochs=2", "train.select=last")
    opinions_of = {}
    for method in ("pooled", "joint-heads"):
        assert mgap("train", store, "--method", method, "-o", tmp_path / method, *same).code == 0
        opinions_of[method] = load_checkpoint(tmp_path / method / "train.pt").model
    weights = "network.fusion.weights"
    assert opinions_of["pooled"].keys() - opinions_of["joint-heads"].keys() == {weights}
    assert all(torch.equal(v, opinions_of["pooled"][k]) for k, v in opinions_of["joint-heads"].items())


@pytest.mark.parametrize(("key", "value"), [("model__fusion", "film"), ("model__unimodal", "shared")])
def test_another_decision_or_a_shared_head_is_refused(key, value):
    with pytest.raises(UsageError, match=f"pooled needs {key.replace('__', '.')}="):
        exercise("pooled", **{key: value})


def test_it_builds_with_the_default_settings():
    settings = built("pooled", configured()).settings
    assert (settings.dropout, settings.coupling) == (0.0, 1.0)
