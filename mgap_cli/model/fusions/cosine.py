"""Sum of scaled cosines: z_k = s sum_m cos(f_m, w_m,k), which does not depend on the features' norm."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgap_cli.model.fusions.base import Features, Fusion

MODALITIES = "two or more"
PAPER = "Xu et al., ICASSP 2023"


class Cosine(Fusion):
    """z_k = s sum_m cos(f_m, w_m,k) with the weights w_m,k of class k for modality m (MMCosine, 2023).

    Buffer: scale, s. It is saved with the weights; the method `mmcosine` sets it.
    """

    name = "cosine"
    additive = True
    scale: Tensor

    def __init__(self, sizes: Mapping[str, int], classes: int) -> None:
        super().__init__(sizes, classes)
        linears = {m: nn.Linear(size, classes, bias=False) for m, size in sizes.items()}
        self.linears = nn.ModuleDict(linears)
        self.register_buffer("scale", torch.tensor(10.0))

    def forward(self, features: Features) -> Tensor:
        """Return the fused logits (B, C) for features (B, D_m) by modality."""
        return torch.stack(list(self.contributions(features).values())).sum(dim=0)

    def contributions(self, features: Features) -> dict[str, Tensor]:
        """Return s cos(f_m, w_m,k) by modality, (B, C) each; 0 for features that are all 0."""
        return {m: self.scale * _cosines(features[m], self.linears[m]) for m in self.modalities}


def _cosines(features: Tensor, classes: nn.Module) -> Tensor:
    """Return the cosine of each feature vector and each class's weights, (B, C)."""
    assert isinstance(classes, nn.Linear)
    return F.normalize(features, dim=1) @ F.normalize(classes.weight, dim=1).T
