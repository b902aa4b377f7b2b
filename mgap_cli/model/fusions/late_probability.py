"""Late fusion by the mean of the unimodal probabilities: p = (p_1 + ... + p_M) / M."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from mgap_cli.model.fusions.base import Fusion

MODALITIES = "two or more"


class LateProbability(Fusion):
    """z = log mean_m softmax(z_m), so that softmax(z) is the mean of the heads' probabilities."""

    name = "late-probability"
    late = True

    def forward(self, logits: Mapping[str, Tensor]) -> Tensor:
        """Return the fused logits (B, C) for unimodal logits (B, C) by modality."""
        each = torch.stack([torch.log_softmax(logits[m], dim=1) for m in self.modalities])
        return torch.logsumexp(each, dim=0) - math.log(len(each))
