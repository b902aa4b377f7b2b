"""Concatenation and one linear layer: z = W [f_1; ...; f_M] + b."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mgap_cli.model.fusions.base import Features, Fusion

MODALITIES = "two or more"


class Concat(Fusion):
    """z = W [f_1; ...; f_M] + b."""

    name = "concat"
    additive = True

    def __init__(self, sizes: Mapping[str, int], classes: int) -> None:
        super().__init__(sizes, classes)
        self.sizes = list(sizes.values())
        self.linear = nn.Linear(sum(self.sizes), classes)

    def forward(self, features: Features) -> Tensor:
        fused: Tensor = self.linear(torch.cat([features[m] for m in self.modalities], dim=1))
        return fused

    def contributions(self, features: Features) -> dict[str, Tensor]:
        """Return W_m f_m + b / M by modality, (B, C) each."""
        weights = torch.split(self.linear.weight, self.sizes, dim=1)
        share = self.linear.bias / len(self.modalities)
        return {m: features[m] @ w.T + share for m, w in zip(self.modalities, weights, strict=True)}
