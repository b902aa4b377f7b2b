"""AGM's steps and running means compared with the formula, and the properties of its attribution."""

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
    return network.train()(given).fused


def reference(ex: Exercise, network: torch.nn.Module, means: list[float], alpha: float):
    """The gradients and scores of one step of two modalities, computed from z, z_a0 and z_0v."""
    inputs, y = ex.batch.inputs, ex.batch.labels
    z = network.train()(inputs)
    z_a, z_v = (zeroed(network, inputs, kept) for kept in ("m0", "m1"))
    phi = (z.fused - z_v + z_a) / 2, (z.fused - z_a + z_v) / 2
    each = [F.cross_entropy(part, y, reduction="none") for part in phi]
    s = [losses.clamp(max=-math.log(1e-8)).mean().item() for losses in each]
    r = math.exp(s[1] - s[0]), math.exp(s[0] - s[1])
    tau = math.exp(means[1] - means[0]), math.exp(means[0] - means[1])
    k = [math.exp(alpha * min(t - ratio, 10)) for t, ratio in zip(tau, r, strict=True)]
    g = (torch.softmax(z.fused, 1) - F.one_hot(y, z.fused.shape[1])).detach() / len(y)
    surrogate = (g * ((k[0] + k[1]) / 2 * z.fused + (k[0] - k[1]) / 2 * (z_a - z_v))).sum()
    probes = sum(F.cross_entropy(head, y) for head in z.unimodal.values())
    loss = F.cross_entropy(z.fused, y) + probes
    return gradients_of(surrogate + probes, network), s, loss.item()


@pytest.mark.parametrize("fusion", ["concat", "sum", "film", "gated"])
def test_three_steps_are_the_formulas(fusion):
    ex = exercise("agm", 2, model__fusion=fusion, agm__alpha=0.7, agm__clip=0)
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


@pytest.mark.parametrize(("fusion", "deciding"), [("gated", "fusion."), ("late-mean", "heads.")])
def test_a_large_gradient_of_the_decision_clips_all_but_the_probes(fusion, deciding):
    def gradients(clip: float) -> dict[str, torch.Tensor]:
        ex = exercise("agm", 2, model__fusion=fusion, agm__clip=clip)
        ex.step()
        return {n: p.grad for n, p in ex.network.named_parameters() if p.grad is not None}

    plain = gradients(0)
    clipped = {n: g for n, g in plain.items() if n.startswith(("encoders.", deciding))}
    norm = math.sqrt(sum(float((g**2).sum()) for g in clipped.values()))
    largest = max(float(g.abs().max()) for n, g in clipped.items() if n.startswith(deciding))
    assert largest < norm
    for clip, factor in ((largest * 1.001, 1.0), (largest * 0.999, largest * 0.999 / norm)):
        for name, gradient in gradients(clip).items():
            wanted = plain[name] * (factor if name in clipped else 1.0)
            torch.testing.assert_close(gradient, wanted, **TOLERANCE, msg=f"{clip}: {name}")
    assert (len(clipped) < len(plain)) == (deciding == "fusion.")


def test_a_class_that_seems_impossible_has_a_bounded_score():
    ex = exercise("agm", 2)
    with torch.no_grad():
        ex.network.fusion.linear.weight.mul_(1e6)
    ex.step()
    assert 1 < ex.method.mean_scores.max() <= -math.log(1e-8) + 1e-12
    assert all(torch.isfinite(p).all() for p in ex.network.parameters())


@pytest.mark.parametrize("modalities", [2, 3])
def test_contributions_sum_to_the_fused_logits_and_leave_the_statistics_alone(modalities):
    ex = exercise("agm", modalities)
    step = TrainingStep(ex.engine, ex.batch, torch.Generator(), BudgetEpoch(0, 1))
    outputs = step.forward()
    statistics = {name: buffer.clone() for name, buffer in ex.network.named_buffers()}
    parts = zero_input_contributions(step, outputs.fused)
    torch.testing.assert_close(sum(parts.values()), outputs.fused, **TOLERANCE)
    normalising = [m for m in ex.network.modules() if isinstance(m, torch.nn.BatchNorm1d)]
    assert normalising and all(module.track_running_stats for module in normalising)
    for name, buffer in ex.network.named_buffers():
        assert torch.equal(buffer, statistics[name]), name


def test_without_modulation_and_clipping_it_is_joint_training():
    ex, joint = exercise("agm", 3, agm__alpha=0, agm__clip=0), exercise("joint", 3)
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
