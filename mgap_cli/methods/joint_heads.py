"""Joint training with one trained head per modality: the fair baseline of the adaptive loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from mgap_cli.methods.base import Method, cross_entropy, unimodal_cross_entropy

if TYPE_CHECKING:
    from mgap_cli.data.loading.loader import Batch
    from mgap_cli.model.network import Outputs


class JointHeads(Method):
    """L = CE(z, y) + sum_m CE(z_m, y); the gradients of all terms reach the encoders."""

    name = "joint-heads"

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        return cross_entropy(outputs.fused, batch.labels) + unimodal_cross_entropy(outputs, batch.labels)
