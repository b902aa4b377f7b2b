"""Disentangled gradients: the unimodal losses train the encoders, the fused loss trains the fusion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mgap_cli.config import positive
from mgap_cli.errors import UsageError
from mgap_cli.methods.base import Method, cross_entropy, unimodal_cross_entropy

if TYPE_CHECKING:
    from mgap_cli.config import Config
    from mgap_cli.data.loading.loader import Batch
    from mgap_cli.model.network import MultimodalNetwork, Outputs

PAPER = "Wei et al., ICCV 2025"


@dataclass(frozen=True)
class Settings:
    """alpha: weight of the unimodal losses, which train the encoders."""

    alpha: float = positive(4.0)


class Detached(Method):
    """L = CE(z, y), with z computed from detached features, + alpha * sum_m CE(z_m, y).

    DGL ("Boosting Multimodal Learning via Disentangled Gradient Learning"). The fused loss sends no gradient
    to the encoders; the unimodal losses send none to the fusion. alpha multiplies the encoders' gradients.

    The authors' program (shicaiwei123/ICCV2025-GDL, main_dgl.py: alpha 4) always clips the norm of the
    gradients at 40, and removes the unimodal losses' gradients of the fusion after it has computed them.
    Here the unimodal logits come from separate heads, so the fusion has no such gradient.
    """

    name = "detached"
    Settings = Settings

    def __init__(self, config: Config) -> None:
        """Raise UsageError for decomposed logits, which would send the unimodal losses to the fusion."""
        super().__init__(config)
        if config.model.unimodal == "decomposed":
            raise UsageError(
                f"method {self.name} trains each encoder by its own head, and model.unimodal is decomposed.",
                "Use --set model.unimodal=heads.",
            )

    def build(self, network: MultimodalNetwork, samples: int) -> None:
        super().build(network, samples)
        network.fusion.register_forward_pre_hook(_detach_features)

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        alpha: float = self.settings.alpha
        unimodal = alpha * unimodal_cross_entropy(outputs, batch.labels)
        return cross_entropy(outputs.fused, batch.labels) + unimodal


def _detach_features(fusion: Any, arguments: tuple[dict[str, Tensor], ...]) -> tuple[dict[str, Tensor], ...]:
    """Return the arguments of a fusion layer, detached from the encoders."""
    return tuple({m: value.detach() for m, value in argument.items()} for argument in arguments)
