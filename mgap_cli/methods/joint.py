"""Joint training: the fused loss alone trains the network; nothing is balanced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from mgap_cli.methods.base import Method, cross_entropy, unimodal_cross_entropy
from mgap_cli.model.fusions import load_fusion

if TYPE_CHECKING:
    from mgap_cli.data.loading.loader import Batch
    from mgap_cli.model.network import Outputs


class Joint(Method):
    """L = CE(z, y).

    Linear probes on detached features learn beside it, so that each modality can be scored without any
    effect on the training (ours). With decomposed logits there is nothing to probe, and with a late fusion
    the fused loss trains the heads.
    """

    name = "joint"
    probes = True

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        fused = cross_entropy(outputs.fused, batch.labels)
        if self.config.model.unimodal == "decomposed" or load_fusion(self.config.model.fusion).late:
            return fused
        return fused + unimodal_cross_entropy(outputs, batch.labels)
