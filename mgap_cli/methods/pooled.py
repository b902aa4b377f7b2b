"""Joint layer and unimodal heads, pooled by weights that are fitted on validation after each epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mgap_cli.config import at_least_zero, share
from mgap_cli.methods.base import Method, cross_entropy, unimodal_cross_entropy
from mgap_cli.stats.opinion_pool import pool_weights

if TYPE_CHECKING:
    from mgap_cli.config import Config
    from mgap_cli.data.loading.loader import Batch
    from mgap_cli.methods.base import BudgetEpoch, EpochContext
    from mgap_cli.model.network import MultimodalNetwork, Outputs

PAPER = "ours"


@dataclass(frozen=True)
class Settings:
    """coupling: share of the joint layer's gradient that reaches the encoders."""

    coupling: float = share(1.0)


class Pooled(Method):
    """L = CE(z_J, y) + sum_m CE(z_m, y); the decision is a pool of all, fitted on validation."""

    name = "pooled"
    Settings = Settings

    @classmethod
    def model(cls, config: Config) -> dict[str, Any]:
        return {"model.fusion": "pool", "model.unimodal": "heads"}

    def build(self, network: MultimodalNetwork, samples: int) -> None:
        super().build(network, samples)
        self.modalities = tuple(network.encoders)
        coupling = self.settings.coupling

        def couple(fusion: Any, arguments: Any) -> Any:
            features, logits = arguments
            return {m: coupling * f + (1 - coupling) * f.detach() for m, f in features.items()}, logits

        network.fusion.register_forward_pre_hook(couple)

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        return cross_entropy(outputs.fused, batch.labels) + unimodal_cross_entropy(outputs, batch.labels)

    def on_epoch_end(self, context: EpochContext) -> list[str]:
        weights = context.network.fusion.weights
        assert isinstance(weights, Tensor)
        weights.zero_()
        weights[0] = 1
        found = context.predictions("val")
        heads = {h: np.log(np.maximum(found.probabilities[h], 1.2e-38)) for h in self.heads}
        fitted = pool_weights(heads, found.labels)
        weights.copy_(torch.tensor(list(fitted.values())))
        self.fitted = fitted
        return ["pool: " + ", ".join(f"{h} {w:.2f}" for h, w in fitted.items())]
