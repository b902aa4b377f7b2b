"""OPM's drops and its step against the formula."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from helpers.steps import ROWS, Exercise, exercise, gradients_of


def zeroed(network: torch.nn.Module, inputs: dict[str, torch.Tensor], kept: str) -> torch.Tensor:
    return network.train()({m: x if m == kept else 0 * x for m, x in inputs.items()}).fused


def parts_of(ex: Exercise) -> list[torch.Tensor]:
    """The contribution of each modality to the fused logits: W_m f_m + b / 2, or by passes with zeros."""
    outputs, fusion = ex.before.train()(ex.batch.inputs), ex.before.fusion
    if fusion.name == "concat":
        weights = torch.split(fusion.linear.weight, 5, dim=1)
        pairs = zip(outputs.features.values(), weights, strict=True)
        return [f @ w.T + fusion.linear.bias / 2 for f, w in pairs]
    z, z_a, z_v = outputs.fused, *(zeroed(ex.before, ex.batch.inputs, m) for m in ("m0", "m1"))
    ex.before.train()
    return [(z - z_v + z_a) / 2, (z - z_a + z_v) / 2]


def reference(ex: Exercise, epoch: int, drop: float, strength: float) -> tuple[torch.Tensor, int]:
    """The loss of a step, by loops over samples, and how many feature vectors it drops."""
    y = ex.batch.labels.tolist()
    p = [sum(torch.softmax(part, 1)[i, k].item() for i, k in enumerate(y)) for part in parts_of(ex)]
    q = []
    for here, other in ((p[0], p[1]), (p[1], p[0])):
        lead = here / other
        q.append(min(1.0, drop * (1 + strength * math.tanh(lead - 1))) if lead > 1 else 0.0)
    draws = torch.Generator().manual_seed(epoch)
    torch.rand(1, generator=draws)  # whether this step drops
    outputs = ex.before.train()(ex.batch.inputs)
    rows, dropped = {}, 0
    for (m, f), rate in zip(outputs.features.items(), q, strict=True):
        chances = torch.rand(ROWS, generator=draws).tolist()
        dropped += sum(chance < rate for chance in chances)
        rows[m] = torch.stack(
            [0 * f[i] if chance < rate else f[i] / (1 - sum(q) / 2) for i, chance in enumerate(chances)]
        )
    fused = ex.before.fusion(rows)
    probes = sum(F.cross_entropy(z, ex.batch.labels) for z in outputs.unimodal.values())
    return F.cross_entropy(fused, ex.batch.labels) + probes, dropped


@pytest.mark.parametrize("fusion", ["concat", "gated"])
@pytest.mark.parametrize(("drop", "strength"), [(0.5, 0.5), (0.9, 3.0)])
def test_a_step_is_the_formulas(fusion, drop, strength):
    total = 0
    for seed in range(3):
        settings = {"opm.drop": drop, "opm.strength": strength, "opm.steps": 1}
        ex = exercise("opm", seed=seed, model__fusion=fusion, **settings)
        loss, dropped = reference(ex, 3, drop, strength)
        total += dropped
        gradients = gradients_of(loss, ex.before)
        assert ex.step(3).loss.item() == pytest.approx(loss.item(), rel=1e-10)
        ex.assert_gradients(gradients)
        ex.assert_updated(gradients)
    assert total > 0


def same_gradients(ex: Exercise, other: Exercise) -> bool:
    pairs = zip(ex.network.parameters(), other.network.parameters(), strict=True)
    return all(torch.equal(a.grad, b.grad) for a, b in pairs)


def test_a_step_without_a_drop_is_joint_training():
    joint = exercise("joint")
    joint.step(3)
    for settings in ({"opm__steps": 0}, {"opm__start": 0.5}):
        ex = exercise("opm", **settings)
        ex.step(3)
        assert same_gradients(ex, joint), settings
    ex = exercise("opm", opm__start=0.3, opm__steps=1, opm__drop=1)
    ex.step(3)
    assert not same_gradients(ex, joint)


def test_the_drops_keep_the_expected_sum_of_the_features():
    """If both features have the same size, the scale is 1 / (1 - q / 2), for any leader."""
    ex = exercise("opm", opm__steps=1, opm__drop=1, opm__strength=0)
    changed: list[dict[str, torch.Tensor]] = []
    fuse = ex.network.fuse
    ex.network.fuse = lambda features: changed.append(features) or fuse(features)
    ex.step(3)
    features = ex.before.train()(ex.batch.inputs).features
    kept = [m for m, f in changed[0].items() if f.abs().sum() > 0]
    assert len(kept) == 1, "with q = 1 the leading modality is dropped in every sample"
    torch.testing.assert_close(changed[0][kept[0]], 2 * features[kept[0]])
