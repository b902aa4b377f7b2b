"""MMCosine's step against its formula, and that its logits are those of the checkpoint."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers.program import TINY, here, sets
from helpers.steps import exercise, gradients_of

from mgap_cli.errors import UsageError
from mgap_cli.training.trained_model import open_trained


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("scale", [10.0, 3.0])
def test_a_step_is_the_formula(modalities, scale):
    ex = exercise("mmcosine", modalities, seed=3, mmcosine__scale=scale)
    outputs = ex.before.train()(ex.batch.inputs)
    assert all(bool(f.any(dim=1).all()) for f in outputs.features.values()), "no cosine with a zero vector"
    z = []
    for m, f in outputs.features.items():
        w = ex.before.fusion.linears[m].weight
        rows = [[row @ k / (row @ row).sqrt() / (k @ k).sqrt() for k in w] for row in f]
        z.append(scale * torch.stack([torch.stack(row) for row in rows]))
    probes = sum(F.cross_entropy(head, ex.batch.labels) for head in outputs.unimodal.values())
    loss = F.cross_entropy(sum(z), ex.batch.labels) + probes
    gradients = gradients_of(loss, ex.before)
    assert ex.step().loss.item() == pytest.approx(loss.item(), rel=1e-10)
    ex.assert_gradients(gradients)
    ex.assert_updated(gradients)


def test_the_size_of_features_and_weights_has_no_effect():
    ex = exercise("mmcosine")
    features = ex.network.train()(ex.batch.inputs).features
    z = ex.network.fusion(features)
    with torch.no_grad():
        ex.network.fusion.linears["m0"].weight.mul_(7)
    torch.testing.assert_close(ex.network.fusion({m: 100 * f for m, f in features.items()}), z)
    assert float(z.detach().abs().max()) <= 2 * 10


def test_the_checkpoint_keeps_the_scale(store, tmp_path):
    line = ["train", store, "--method", "mmcosine", "-o", tmp_path, "--epochs", 1]
    done = here(*line, *sets(*TINY, "mmcosine.scale=4"))
    assert done.code == 0, done.err
    network = open_trained(tmp_path / "train.pt", torch.device("cpu")).network
    assert network.fusion.name == "cosine" and float(network.fusion.scale) == 4


def test_another_fusion_is_refused():
    with pytest.raises(UsageError, match=r"mmcosine needs model\.fusion=cosine"):
        exercise("mmcosine", model__fusion="film")
