"""detached: the fused loss trains only the fusion; the unimodal losses train the encoders and heads."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers.methods import built, configured
from helpers.steps import TOLERANCE, exercise, gradients_of

from mgap_cli.errors import UsageError


@pytest.mark.parametrize(
    ("modalities", "fusion", "alpha"),
    [(2, "concat", 1.0), (2, "film", 4.0), (2, "gated", 4.0), (3, "sum", 4.0)],
)
def test_one_step_is_the_formula(modalities, fusion, alpha):
    ex = exercise("detached", modalities, model__fusion=fusion, detached__alpha=alpha)
    outputs = ex.before.train()(ex.batch.inputs)
    fused = F.cross_entropy(outputs.fused, ex.batch.labels)
    unimodal = alpha * sum(F.cross_entropy(z, ex.batch.labels) for z in outputs.unimodal.values())
    fused_gradients = {n: g for n, g in gradients_of(fused, ex.before).items() if n.startswith("fusion.")}
    others = gradients_of(unimodal, ex.before)
    assert fused_gradients and others and not fused_gradients.keys() & others.keys()
    step = ex.step()
    torch.testing.assert_close(step.loss, (fused + unimodal).detach(), **TOLERANCE)
    ex.assert_gradients(fused_gradients | others)
    ex.assert_updated(fused_gradients | others)


def test_decomposed_logits_are_refused():
    with pytest.raises(UsageError, match="decomposed"):
        built("detached", configured(model__unimodal="decomposed"))
