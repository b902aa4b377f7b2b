"""The first modality gates the second: z = W (sigmoid(U f_1) * V f_2) + b."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mgap_cli.model.fusions.base import Features, Fusion

MODALITIES = "two"
PAPER = "Kiela et al., AAAI 2018"


class Gated(Fusion):
    """The first modality gates the second (Kiela et al., 2018): z = W (sigmoid(U f_1) * V f_2) + b."""

    name = "gated"
    pair_only = True

    def __init__(self, sizes: Mapping[str, int], classes: int) -> None:
        super().__init__(sizes, classes)
        first, second = sizes.values()
        self.gate = nn.Linear(first, second)
        self.value = nn.Linear(second, second)
        self.linear = nn.Linear(second, classes)

    def forward(self, features: Features) -> Tensor:
        first, second = (features[m] for m in self.modalities)
        fused: Tensor = self.linear(torch.sigmoid(self.gate(first)) * self.value(second))
        return fused
