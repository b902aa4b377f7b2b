"""The sum of one linear layer per modality: z = sum_m W_m f_m + b."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mgap_cli.model.fusions.base import Features, Fusion

MODALITIES = "two or more"


class Sum(Fusion):
    """z = sum_m W_m f_m + b."""

    name = "sum"
    additive = True

    def __init__(self, sizes: Mapping[str, int], classes: int) -> None:
        super().__init__(sizes, classes)
        linears = {m: nn.Linear(size, classes, bias=False) for m, size in sizes.items()}
        self.linears = nn.ModuleDict(linears)
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, features: Features) -> Tensor:
        first, *others = self.contributions(features).values()
        for part in others:
            first = first + part
        return first

    def contributions(self, features: Features) -> dict[str, Tensor]:
        """Return W_m f_m + b / M by modality, (B, C) each."""
        share = self.bias / len(self.linears)
        return {m: linear(features[m]) + share for m, linear in self.linears.items()}
