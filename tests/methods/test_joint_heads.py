"""joint-heads: the weight of the unimodal losses."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers.methods import batch_of, built, outputs_of
from helpers.steps import TOLERANCE, exercise, gradients_of

from mgap_cli.methods.base import cross_entropy


@pytest.mark.parametrize("weight", [0.0, 1.0, 4.5])
@pytest.mark.parametrize("modalities", [2, 3])
def test_one_step_is_the_formula(modalities, weight):
    ex = exercise("joint-heads", modalities, **{"joint-heads.weight": weight})
    outputs = ex.before.train()(ex.batch.inputs)
    unimodal = sum(F.cross_entropy(z, ex.batch.labels) for z in outputs.unimodal.values())
    loss = F.cross_entropy(outputs.fused, ex.batch.labels) + weight * unimodal
    step = ex.step()
    torch.testing.assert_close(step.loss, loss.detach(), **TOLERANCE)
    ex.assert_gradients(gradients_of(loss, ex.before))
    ex.assert_updated(gradients_of(loss, ex.before))


def test_the_default_weight_changes_no_bit():
    fused, audio, visual = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 3, 1, 4, 2, 0])
    loss = built("joint-heads").loss(outputs_of(fused, audio, visual), batch_of(torch.arange(6), labels))
    parts = [cross_entropy(z, labels) for z in (fused, audio, visual)]
    assert torch.equal(loss, parts[0] + (parts[1] + parts[2]))
