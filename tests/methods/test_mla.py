"""MLA's alternating steps, its projection and its decision against the formulas."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F
from helpers.steps import TOLERANCE, exercise

from mgap_cli.errors import UsageError


@pytest.mark.parametrize("modalities", [2, 3])
def test_two_steps_are_the_formulas(modalities):
    ex = exercise("mla", modalities)
    network, y = copy.deepcopy(ex.network).train(), ex.batch.labels
    p = torch.eye(5, dtype=torch.float64)
    for progress in (0.0, 0.75):
        total = 0.0
        for m in ex.network.encoders:
            head = network.heads["shared"]
            features = network.encode(m, ex.batch.inputs[m])
            loss = F.cross_entropy(features @ head.weight.T + head.bias, y)
            trained = {**dict(network.encoders[m].named_parameters()), "w": head.weight, "b": head.bias}
            gradients = dict(zip(trained, torch.autograd.grad(loss, list(trained.values())), strict=True))
            r = features.detach().mean(0)[:, None]
            k = p @ r
            p = p - k @ k.T / (0.1 ** (1 + progress) + (r.T @ k).item())
            gradients["w"] = gradients["w"] @ p.T
            with torch.no_grad():
                for name, parameter in trained.items():
                    parameter -= ex.lr * gradients[name]
            total += loss.item()
        step = ex.step(progress=progress)
        assert step.loss.item() == pytest.approx(total, rel=1e-10)
        torch.testing.assert_close(ex.method.projection, p, **TOLERANCE)
        wanted = dict(network.named_parameters())
        for name, parameter in ex.network.named_parameters():
            torch.testing.assert_close(parameter, wanted[name], **TOLERANCE)


def test_the_decision_weighs_the_heads_by_entropy_per_sample():
    ex = exercise("mla", 3)
    with torch.no_grad():
        outputs = ex.network.eval()(ex.batch.inputs)
    for row in range(len(ex.batch.labels)):
        each = [z[row] for z in outputs.unimodal.values()]
        entropy = [float(torch.distributions.Categorical(logits=z).entropy()) for z in each]
        raw = [torch.tensor(max(entropy) - h).exp().double() for h in entropy]
        expected = sum(w / sum(raw) * z for w, z in zip(raw, each, strict=True))
        torch.testing.assert_close(outputs.fused[row], expected, rtol=1e-6, atol=1e-6)


def test_features_that_are_not_finite_leave_the_projection_alone():
    ex = exercise("mla")
    broken = {m: x * float("nan") for m, x in ex.batch.inputs.items()}
    ex.step(batch=dataclasses.replace(ex.batch, inputs=broken))
    assert torch.equal(ex.method.projection, torch.eye(5, dtype=torch.float64))


def test_another_fusion_or_kind_of_head_is_refused():
    with pytest.raises(UsageError, match=r"mla needs model\.fusion=late-entropy, and it is gated"):
        exercise("mla", model__fusion="gated")
    with pytest.raises(UsageError, match=r"mla needs model\.unimodal=shared, and it is decomposed"):
        exercise("mla", model__unimodal="decomposed")
