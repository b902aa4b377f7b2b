"""Joint training with one trained head per modality: the fair baseline of the adaptive loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from mgap_cli.config import Between, at_least_zero, search_space
from mgap_cli.methods.base import Method, cross_entropy, unimodal_cross_entropy

if TYPE_CHECKING:
    from mgap_cli.data.loading.loader import Batch
    from mgap_cli.model.network import Outputs


@dataclass(frozen=True)
class Settings:
    """weight: weight of the unimodal heads' cross-entropies beside the fused one."""

    weight: float = at_least_zero(1.0)


class JointHeads(Method):
    """L = CE(z, y) + weight * sum_m CE(z_m, y); the gradients of all terms reach the encoders."""

    name = "joint-heads"
    Settings = Settings
    space = search_space(weight=Between(0.1, 10, log=True))

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        weight: float = self.settings.weight
        unimodal = weight * unimodal_cross_entropy(outputs, batch.labels)
        return cross_entropy(outputs.fused, batch.labels) + unimodal
