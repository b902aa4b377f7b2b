"""detached: the fused loss trains the fusion alone, the unimodal losses the encoders and heads."""

from __future__ import annotations

import pytest
import torch
from helpers.methods import built, configured
from helpers.one_step import TOLERANCE, assert_same_gradients, cross_entropy64, gradients_of, tiny_step

from mgap_cli.errors import UsageError


@pytest.mark.parametrize("fusion", ["concat", "sum", "film", "gated"])
@pytest.mark.parametrize("alpha", [1.0, 4.0])
def test_one_step_is_the_formula(fusion, alpha):
    step = tiny_step("detached", model__fusion=fusion, detached__alpha=alpha)
    z = step.network(step.batch.inputs).logits
    fused, audio, visual = (cross_entropy64(z[head]) for head in ("fused", "audio", "visual"))
    unimodal = gradients_of(alpha * (audio + visual), step.network)
    own = {n: g for n, g in gradients_of(fused, step.network).items() if n.startswith("fusion.")}
    assert not any(n.startswith("fusion.") for n in unimodal) and own
    step.method.training_step(step)
    torch.testing.assert_close(step.losses[0], (fused + alpha * (audio + visual)).detach(), **TOLERANCE)
    assert_same_gradients(step.gradients(), {**unimodal, **own})
    assert step.gradients().keys() == dict(step.network.named_parameters()).keys()


def test_decomposed_logits_are_refused():
    with pytest.raises(UsageError, match="decomposed"):
        built("detached", configured(model__unimodal="decomposed"))
