"""AGM's steps and its running means against the formula, and what its attribution promises."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from helpers.steps import TOLERANCE, Exercise, exercise, gradients_of

from mgap_cli.methods.attribution import zero_input_contributions
from mgap_cli.methods.base import BudgetEpoch
from mgap_cli.training.step import TrainingStep


def zeroed(network: torch.nn.Module, inputs: dict[str, torch.Tensor], kept: str) -> torch.Tensor:
    given = {m: x if m in kept.split("+") else 0 * x for m, x in inputs.items()}
    return network.eval()(given).fused


def reference(ex: Exercise, network: torch.nn.Module, means: list[float], alpha: float):
    """The gradients and scores of one step of two modalities, written with z, z_a0 and z_0v."""
    inputs, y = ex.batch.inputs, ex.batch.labels
    z = network.train()(inputs)
    z_a, z_v = (zeroed(network, inputs, kept) for kept in ("m0", "m1"))
    phi = (z.fused - z_v + z_a) / 2, (z.fused - z_a + z_v) / 2
    s = [F.cross_entropy(part, y).item() for part in phi]
    r = math.exp(s[1] - s[0]), math.exp(s[0] - s[1])
    tau = math.exp(means[1] - means[0]), math.exp(means[0] - means[1])
    k = [math.exp(alpha * min(t - ratio, 10)) for t, ratio in zip(tau, r, strict=True)]
    g = (torch.softmax(z.fused, 1) - F.one_hot(y, z.fused.shape[1])).detach() / len(y)
    surrogate = (g * ((k[0] + k[1]) / 2 * z.fused + (k[0] - k[1]) / 2 * (z_a - z_v))).sum()
    probes = sum(F.cross_entropy(head, y) for head in z.unimodal.values())
    loss = F.cross_entropy(z.fused, y) + probes
    return gradients_of(surrogate + probes, network), s, loss.item()


@pytest.mark.parametrize("fusion", ["concat", "sum", "film", "gated"])
def test_two_steps_are_the_formulas(fusion):
    ex = exercise("agm", 2, model__fusion=fusion, agm__alpha=0.7)
    means = [0.0, 0.0]
    for count in range(1, 4):
        before = copy.deepcopy(ex.network)
        gradients, scores, loss = reference(ex, before, means, 0.7)
        assert ex.step().loss.item() == pytest.approx(loss, rel=1e-10)
        ex.assert_gradients(gradients)
        means = [(m * (count - 1) + s) / count for m, s in zip(means, scores, strict=True)]
        torch.testing.assert_close(
            ex.method.mean_scores, torch.tensor(means, dtype=torch.float64), **TOLERANCE
        )
        assert int(ex.method.iterations) == count


@pytest.mark.parametrize("modalities", [2, 3])
def test_contributions_sum_to_the_fused_logits_and_leave_the_statistics_alone(modalities):
    ex = exercise("agm", modalities)
    step = TrainingStep(ex.engine, ex.batch, torch.Generator(), BudgetEpoch(0, 1))
    outputs = step.forward()
    statistics = {name: buffer.clone() for name, buffer in ex.network.named_buffers()}
    parts = zero_input_contributions(step, outputs.fused)
    torch.testing.assert_close(sum(parts.values()), outputs.fused, **TOLERANCE)
    assert ex.network.training and all(module.training for module in ex.network.modules())
    for name, buffer in ex.network.named_buffers():
        assert torch.equal(buffer, statistics[name]), name


def test_alpha_zero_is_joint_training():
    ex, joint = exercise("agm", 3, agm__alpha=0), exercise("joint", 3)
    ex.step()
    joint.step()
    ex.assert_gradients({n: p.grad for n, p in joint.network.named_parameters() if p.grad is not None})


def test_a_batch_that_is_not_finite_leaves_the_means_alone():
    ex = exercise("agm", 2)
    ex.step()
    means = ex.method.mean_scores.clone()
    broken = {m: x * float("inf") for m, x in ex.batch.inputs.items()}
    ex.step(batch=dataclasses.replace(ex.batch, inputs=broken))
    assert torch.equal(ex.method.mean_scores, means) and int(ex.method.iterations) == 1
