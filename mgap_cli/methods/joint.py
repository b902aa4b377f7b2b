"""Joint training: the fused logits alone, and with a trained head a modality beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from mgap_cli.methods.base import Objective, cross_entropy, unimodal_cross_entropy

if TYPE_CHECKING:
    from mgap_cli.data.loading.loader import Batch
    from mgap_cli.model.network import Outputs


class Joint(Objective):
    """L = CE(z, y). The encoders and the fusion see nothing else.

    Linear probes on the detached features learn beside it, so that each modality can be scored
    without touching the training (ours). With decomposed logits there is nothing to probe.
    """

    name = "joint"
    probes = True

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        fused = cross_entropy(outputs.fused, batch.labels)
        if self.config.model.unimodal == "decomposed":
            return fused
        return fused + unimodal_cross_entropy(outputs, batch.labels)


class JointHeads(Objective):
    """L = CE(z, y) + CE(z_a, y) + CE(z_v, y), gradients flowing through all of it."""

    name = "joint-heads"

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        return cross_entropy(outputs.fused, batch.labels) + unimodal_cross_entropy(outputs, batch.labels)
