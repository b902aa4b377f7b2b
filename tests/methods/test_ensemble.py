"""ensemble: each branch is trained as by `unimodal`; the decision is the mean of the probabilities."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers.program import TINY, mgap, sets
from helpers.steps import TOLERANCE, exercise, gradients_of

from mgap_cli.errors import UsageError
from mgap_cli.runs.checkpoint import load_checkpoint
from mgap_cli.training.trained_model import open_trained


@pytest.mark.parametrize("modalities", [2, 3])
def test_one_step_trains_each_branch_by_its_own_loss(modalities):
    ex = exercise("ensemble", modalities, train__clip_norm=0)
    outputs = ex.before.train()(ex.batch.inputs)
    losses = [F.cross_entropy(z, ex.batch.labels) for z in outputs.unimodal.values()]
    step = ex.step()
    torch.testing.assert_close(step.loss, sum(losses).detach(), **TOLERANCE)
    ex.assert_updated(gradients_of(sum(losses), ex.before))
    assert list(ex.engine.optimizers.by_group) == list(ex.network.encoders)


@pytest.mark.parametrize("modalities", [2, 3])
def test_the_decision_is_the_mean_of_the_probabilities(modalities):
    ex = exercise("ensemble", modalities)
    outputs = ex.network(ex.batch.inputs)
    mean = sum(z.exp() / z.exp().sum(dim=1, keepdim=True) for z in outputs.unimodal.values()) / modalities
    torch.testing.assert_close(outputs.fused.exp(), mean, **TOLERANCE)
    torch.testing.assert_close(torch.softmax(outputs.fused, dim=1), mean, **TOLERANCE)


@pytest.mark.parametrize(("key", "value"), [("model__fusion", "film"), ("model__unimodal", "shared")])
def test_another_decision_or_a_shared_head_is_refused(key, value):
    with pytest.raises(UsageError, match=f"ensemble needs {key.replace('__', '.')}="):
        exercise("ensemble", **{key: value})


def test_its_branches_are_bit_for_bit_those_of_unimodal(store, tmp_path):
    """This also holds with clipping, which is per branch: the branches do not depend on each other."""
    same = sets(*TINY, "train.epochs=2", "train.select=last", "train.clip_norm=0.5")
    together = tmp_path / "together"
    assert mgap("train", store, "--method", "ensemble", "-o", together, *same).code == 0
    together_weights = load_checkpoint(together / "train.pt").model
    for modality in ("audio", "visual"):
        alone = tmp_path / modality
        settings = sets("model.fusion=late-probability", f"unimodal.modality={modality}")
        assert mgap("train", store, "--method", "unimodal", "-o", alone, *same, *settings).code == 0
        wanted = load_checkpoint(alone / "train.pt").model
        branch = [key for key in wanted if f".{modality}." in key]
        assert branch
        assert [key for key in branch if not torch.equal(together_weights[key], wanted[key])] == []
    model = open_trained(together / "train.pt", torch.device("cpu"))
    predicted = model.predict("test").probabilities
    mean = (predicted["audio"] + predicted["visual"]) / 2
    torch.testing.assert_close(torch.tensor(predicted["fused"]), torch.tensor(mean), rtol=1e-5, atol=1e-6)
    assert mgap("evaluate", together / "train.pt", *sets("evaluate.bootstrap=50")).code == 0
