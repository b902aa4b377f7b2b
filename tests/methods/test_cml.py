"""CML's step against its formula."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from helpers.steps import ROWS, Exercise, exercise, gradients_of


def reference(ex: Exercise, epoch: int, weight: float) -> tuple[torch.Tensor, int]:
    """The loss of a step, by loops over samples, and how often a confidence rises."""
    outputs, y = ex.before.train()(ex.batch.inputs), ex.batch.labels
    names = list(outputs.features)
    draws = torch.rand(ROWS, len(names), generator=torch.Generator().manual_seed(epoch)).tolist()
    orders = [sorted(range(len(names)), key=row.__getitem__) for row in draws]
    fits, confidences = [], []
    for removed in range(len(names)):
        rows = {
            m: torch.stack([f[i] * (m not in [names[k] for k in orders[i][:removed]]) for i in range(ROWS)])
            for m, f in outputs.features.items()
        }
        z = ex.before.fuse(rows)
        fits.append(F.cross_entropy(z, y))
        confidences.append([torch.softmax(z[i], 0).max() for i in range(ROWS)])
    rises = 0 * fits[0]
    count = 0
    for fuller, fewer in pairwise(confidences):
        for a, b in zip(fuller, fewer, strict=True):
            if b > a:
                rises, count = rises + (b - a) / ROWS, count + 1
    loss = sum(fits) / len(fits) + weight * rises
    if not ex.before.fusion.late:
        loss = loss + sum(F.cross_entropy(z, y) for z in outputs.unimodal.values())
    return loss, count


@pytest.mark.parametrize(("fusion", "modalities"), [("concat", 2), ("film", 2), ("sum", 3), ("late-mean", 3)])
def test_a_step_is_the_formula(fusion, modalities):
    mixed = False
    for seed in range(6):
        ex = exercise("cml", modalities, seed, model__fusion=fusion, cml__weight=7)
        with torch.no_grad():  # larger logits, so that confidences differ
            for network in (ex.network, ex.before):
                for parameter in network.encoders.parameters():
                    parameter.mul_(4)
        loss, rises = reference(ex, 2, 7)
        mixed = mixed or 0 < rises < ROWS
        gradients = gradients_of(loss, ex.before)
        assert ex.step(2).loss.item() == pytest.approx(loss.item(), rel=1e-10)
        ex.assert_gradients(gradients)
        ex.assert_updated(gradients)
    assert mixed, "in one batch, some samples' confidence rises and that of others falls"
