"""Weighted sum of a joint layer's and all unimodal heads' logits, each weight learned on validation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mgap_cli.model.fusions.base import Features, Fusion

MODALITIES = "two or more"


class Pool(Fusion):
    """z = beta_0 z_J + sum_m beta_m z_m, with z_J = W [f_1; ...; f_M] + b; in training mode z_J alone.

    softmax(z) is the logarithmic opinion pool of the joint layer and the M unimodal heads, z_m their logits.
    A loss trains the joint layer, and no loss the weights.

    Buffer: weights (M + 1,), beta_0 first, then in the order of the modalities; 1 / (M + 1) each at
    first, the geometric mean of the probabilities. They are saved with the network; `pooled` sets them.
    """

    name = "pool"
    pools = True
    weights: Tensor

    def __init__(self, sizes: Mapping[str, int], classes: int) -> None:
        super().__init__(sizes, classes)
        self.linear = nn.Linear(sum(sizes.values()), classes)
        experts = len(sizes) + 1
        self.register_buffer("weights", torch.full((experts,), 1 / experts))

    def forward(self, features: Features, logits: Mapping[str, Tensor]) -> Tensor:
        """Return the fused logits (B, C) for features (B, D_m) and unimodal logits (B, C) by modality."""
        joint: Tensor = self.linear(torch.cat([features[m] for m in self.modalities], dim=1))
        if self.training:
            return joint
        every = torch.stack([joint, *(logits[m] for m in self.modalities)])
        return torch.einsum("e,ebc->bc", self.weights.to(every.dtype), every)
