"""Late fusion by the mean of the unimodal logits: z = (z_1 + ... + z_M) / M."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mgap_cli.model.fusions.base import Fusion

MODALITIES = "two or more"


class LateMean(Fusion):
    """z = mean_m z_m over the unimodal heads' logits."""

    name = "late-mean"
    late = True

    def forward(self, logits: Mapping[str, Tensor]) -> Tensor:
        """Return the fused logits (B, C) for unimodal logits (B, C) by modality."""
        return torch.stack([logits[m] for m in self.modalities]).mean(dim=0)
