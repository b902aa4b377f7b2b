"""Late fusion that trusts, per sample, the modality whose prediction has the lower entropy."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mgap_cli.model.fusions.base import Fusion

MODALITIES = "two or more"
PAPER = "Zhang et al., CVPR 2024"


class LateEntropy(Fusion):
    """z = sum_m w_m z_m with w_m proportional to exp(max_n H_n - H_m), per sample.

    H_m is the entropy of softmax(z_m). This is the test-time fusion of MLA (Zhang et al., CVPR 2024).
    """

    name = "late-entropy"
    late = True

    def forward(self, logits: Mapping[str, Tensor]) -> Tensor:
        """Return the fused logits (B, C) for unimodal logits (B, C) by modality."""
        each = torch.stack([logits[m] for m in self.modalities])
        log_p = torch.log_softmax(each, dim=2)
        entropy = -(log_p.exp() * log_p).sum(dim=2)
        weight = torch.softmax(-entropy, dim=0)  # the highest entropy cancels
        return (weight[:, :, None] * each).sum(dim=0)
