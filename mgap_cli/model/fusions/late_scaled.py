"""Late fusion by the sum of the unimodal logits, times a learned number."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mgap_cli.model.fusions.base import Fusion

MODALITIES = "two or more"
PAPER = "Hua et al., ICML 2024"


class LateScaled(Fusion):
    """z = beta sum_m z_m over the unimodal heads' logits, beta learned from 1 (ReconBoost; ICML 2024)."""

    name = "late-scaled"
    late = True

    def __init__(self, sizes: Mapping[str, int], classes: int) -> None:
        super().__init__(sizes, classes)
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, logits: Mapping[str, Tensor]) -> Tensor:
        """Return the fused logits (B, C) for unimodal logits (B, C) by modality."""
        return self.scale * torch.stack([logits[m] for m in self.modalities]).sum(dim=0)
