"""Each encoder takes one direction that agrees with both the fused loss and its own unimodal loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mgap_cli.config import positive
from mgap_cli.methods.base import Method, cross_entropy, sum_of_gradients

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mgap_cli.methods.base import Step

PAPER = "Wei and Hu, ICML 2024"

Gradients = dict[str, Tensor]


@dataclass(frozen=True)
class Settings:
    """scale: factor of every encoder's gradient, which keeps the strength of the gradients' noise."""

    scale: float = positive(1.5)


class MMPareto(Method):
    """Pareto integration of the fused and the unimodal gradients (MMPareto; Wei and Hu, ICML 2024).

    For each encoder, with u the gradient of CE(z, y) and v that of its own CE(z_m, y) over all of its
    parameters: if <u, v> >= 0, k = (1/2, 1/2). Otherwise k = (gamma, 1 - gamma) is the convex combination of
    least norm, gamma = (|v|^2 - <u, v>) / (|u|^2 + |v|^2 - 2 <u, v>). Then

        g = 2 k_0 u + 2 k_1 v,     gradient = scale max(1, |s| / |g|) g,

    with s the encoder's gradient of the sum of all cross-entropies. Heads and fusion take that sum itself.
    The method works with any number of modalities. The train loss is the sum of the cross-entropies.

    The authors' program (GeWu-Lab/MMPareto_ICML2024, code/MMPareto.py) takes |s| / |g| for each parameter
    tensor. This method takes it for each encoder, as it does for <u, v>. That program keeps the epoch that is
    best on the test set.
    """

    name = "mmpareto"
    Settings = Settings

    def training_step(self, step: Step) -> None:
        outputs = step.forward()
        labels = step.batch.labels
        losses = [cross_entropy(z, labels) for z in (outputs.fused, *outputs.unimodal.values())]
        fused, *unimodal = step.gradients(losses)
        result = sum_of_gradients([fused, *unimodal])
        for modality, own in zip(outputs.unimodal, unimodal, strict=True):
            names = [n for n in fused if n.startswith(f"network.encoders.{modality}.")]
            u, v, s = ({n: of[n] for n in names} for of in (fused, own, result))
            result |= integrate(u, v, s, self.settings.scale)
        step.set_gradients(result)
        step.update()


def integrate(u: Gradients, v: Gradients, s: Gradients, scale: float) -> Gradients:
    """Return one encoder's gradient from those of the fused (u), unimodal (v) and summed (s) losses."""
    uu, vv, uv = _dot(u, u), _dot(v, v), _dot(u, v)
    # In a conflict <u, v> < 0, so that gamma lies within (0, 1) and its denominator is above 0.
    gamma = torch.where(uv < 0, (vv - uv) / (uu + vv - 2 * uv), torch.full_like(uv, 0.5))
    g = {n: 2 * gamma * u[n] + 2 * (1 - gamma) * v[n] for n in u}
    size = _dot(g, g).sqrt()
    ratio = torch.where(size > 0, _dot(s, s).sqrt() / size, torch.ones_like(size))
    return {n: scale * ratio.clamp_min(1) * value for n, value in g.items()}


def _dot(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([(a[n] * b[n]).sum() for n in a]).sum()
