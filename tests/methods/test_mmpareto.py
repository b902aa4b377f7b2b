"""MMPareto's step against its formula, with and without a conflict."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers.steps import Exercise, exercise, gradients_of


def expected(ex: Exercise, scale: float) -> tuple[dict[str, torch.Tensor], set[bool]]:
    """The gradient of every parameter, one flat vector per encoder, and which encoders had a conflict."""
    outputs = ex.before.train()(ex.batch.inputs)
    losses = {head: F.cross_entropy(z, ex.batch.labels) for head, z in outputs.logits.items()}
    result = gradients_of(sum(losses.values()), ex.before)
    conflicts = set()
    for modality, encoder in ex.before.encoders.items():
        parameters = list(encoder.parameters())
        u, v, s = (
            torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters, retain_graph=True)])
            for loss in (losses["fused"], losses[modality], sum(losses.values()))
        )
        conflicts.add(bool(u @ v < 0))
        gamma = 0.5 if u @ v >= 0 else float((v @ v - u @ v) / ((u - v) @ (u - v)))
        g = 2 * gamma * u + 2 * (1 - gamma) * v
        g = scale * max(1.0, float(s.norm() / g.norm())) * g
        pieces = torch.split(g, [p.numel() for p in parameters])
        for (name, parameter), piece in zip(encoder.named_parameters(), pieces, strict=True):
            result[f"encoders.{modality}.{name}"] = piece.view_as(parameter)
    return result, conflicts


@pytest.mark.parametrize(("fusion", "modalities"), [("concat", 2), ("gated", 2), ("sum", 3)])
def test_a_step_is_the_formulas(fusion, modalities):
    seen = set()
    for seed in range(6):
        ex = exercise("mmpareto", modalities, seed, model__fusion=fusion, mmpareto__scale=1.3)
        gradients, conflicts = expected(ex, 1.3)
        seen |= conflicts
        step = ex.step()
        outputs = ex.before(ex.batch.inputs)
        loss = sum(F.cross_entropy(z, ex.batch.labels) for z in outputs.logits.values())
        assert step.loss.item() == pytest.approx(loss.item(), rel=1e-10)
        ex.assert_gradients(gradients)
        ex.assert_updated(gradients)
    assert seen == {True, False}, "both cases were met"
