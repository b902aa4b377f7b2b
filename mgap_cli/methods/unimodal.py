"""One modality alone: the reference for what it can do without the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from mgap_cli.errors import UsageError
from mgap_cli.methods.base import Method, cross_entropy

if TYPE_CHECKING:
    from mgap_cli.data.loading.loader import Batch
    from mgap_cli.model.network import MultimodalNetwork, Outputs


@dataclass(frozen=True)
class Settings:
    """modality: the modality to train; there is no default."""

    modality: str = ""


class Unimodal(Method):
    """L = CE(z_m, y) of one modality m."""

    name = "unimodal"
    Settings = Settings

    def build(self, network: MultimodalNetwork, samples: int) -> None:
        """Raises UsageError unless `unimodal.modality` names a modality of the store."""
        modality = self.settings.modality
        if modality not in network.encoders:
            problem = f"unimodal.modality is {modality!r}, and" if modality else "set unimodal.modality:"
            raise UsageError(
                f"{problem} the store has {', '.join(network.encoders)}.",
                f"Name one, for example: --set unimodal.modality={next(iter(network.encoders))}",
            )
        self.heads = (modality,)

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        return cross_entropy(outputs.unimodal[self.settings.modality], batch.labels)
