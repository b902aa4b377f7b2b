"""joint-heads: the weight of the unimodal heads."""

from __future__ import annotations

import pytest
import torch
from helpers.methods import batch_of, built, outputs_of
from helpers.one_step import (
    LABELS,
    TOLERANCE,
    assert_same_gradients,
    cross_entropy64,
    gradients_of,
    tiny_step,
)

from mgap_cli.methods.base import cross_entropy


@pytest.mark.parametrize("weight", [0.0, 1.0, 4.5])
def test_one_step_is_the_formula(weight):
    step = tiny_step("joint-heads", **{"joint-heads.weight": weight})
    z = step.network(step.batch.inputs).logits
    loss = cross_entropy64(z["fused"]) + weight * (cross_entropy64(z["audio"]) + cross_entropy64(z["visual"]))
    expected = gradients_of(loss, step.network)
    step.method.training_step(step)
    torch.testing.assert_close(step.losses[0], loss.detach(), **TOLERANCE)
    assert_same_gradients(step.gradients(), expected)


def test_the_default_weight_changes_no_bit():
    fused, audio, visual = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(0))
    loss = built("joint-heads").loss(outputs_of(fused, audio, visual), batch_of(torch.arange(6), LABELS))
    parts = [cross_entropy(z, LABELS) for z in (fused, audio, visual)]
    assert torch.equal(loss, parts[0] + (parts[1] + parts[2]))
