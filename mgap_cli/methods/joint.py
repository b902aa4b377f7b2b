"""Joint training: the fused loss alone trains the network; nothing is balanced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from mgap_cli.methods.base import Method, cross_entropy, unimodal_cross_entropy

if TYPE_CHECKING:
    from mgap_cli.data.loading.loader import Batch
    from mgap_cli.model.network import Outputs


class Joint(Method):
    """L = CE(z, y).

    Linear probes on detached features learn beside it, so that each modality can be scored without any
    effect on the training (ours). With decomposed logits there is nothing to probe.
    """

    name = "joint"
    probes = True

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        fused = cross_entropy(outputs.fused, batch.labels)
        if self.config.model.unimodal == "decomposed":
            return fused
        return fused + unimodal_cross_entropy(outputs, batch.labels)
