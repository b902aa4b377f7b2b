"""Training of one modality alone: the reference for its accuracy without the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from mgap_cli.errors import UsageError
from mgap_cli.methods.base import Method, RecipeStage, cross_entropy

if TYPE_CHECKING:
    from mgap_cli.config import Config
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

    @classmethod
    def recipe(cls, config: Config, modalities: Sequence[str]) -> tuple[RecipeStage, ...]:
        """Return the one stage. UsageError unless `unimodal.modality` names a modality of the store."""
        _require_modality(config.method_settings(cls.name).modality, modalities)
        return super().recipe(config, modalities)

    def build(self, network: MultimodalNetwork, samples: int) -> None:
        """Raise UsageError unless `unimodal.modality` names a modality of the store."""
        modality = self.settings.modality
        _require_modality(modality, tuple(network.encoders))
        self.heads = (modality,)

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        return cross_entropy(outputs.unimodal[self.settings.modality], batch.labels)


def _require_modality(modality: str, modalities: Sequence[str]) -> None:
    if modality not in modalities:
        problem = f"unimodal.modality is {modality!r}, and" if modality else "set unimodal.modality:"
        raise UsageError(
            f"{problem} the store has {', '.join(modalities)}.",
            f"Name one, for example: --set unimodal.modality={modalities[0]}",
        )
