"""joint-heads: the weight of the unimodal heads."""

from __future__ import annotations

import pytest
import torch
from helpers.one_step import TOLERANCE, assert_same_gradients, cross_entropy64, gradients_of, tiny_step


@pytest.mark.parametrize("weight", [0.0, 1.0, 4.5])
def test_one_step_is_the_formula(weight):
    step = tiny_step("joint-heads", **{"joint-heads.weight": weight})
    z = step.network(step.batch.inputs).logits
    loss = cross_entropy64(z["fused"]) + weight * (cross_entropy64(z["audio"]) + cross_entropy64(z["visual"]))
    expected = gradients_of(loss, step.network)
    step.method.training_step(step)
    torch.testing.assert_close(step.losses[0], loss.detach(), **TOLERANCE)
    assert_same_gradients(step.gradients(), expected)
