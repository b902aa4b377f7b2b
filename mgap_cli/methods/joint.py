"""Joint training: only the fused loss trains the network, without any balancing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from mgap_cli.methods.base import Method, cross_entropy, unimodal_cross_entropy
from mgap_cli.model.fusions import load_fusion

if TYPE_CHECKING:
    from mgap_cli.config import Config
    from mgap_cli.data.loading.loader import Batch
    from mgap_cli.model.network import Outputs


class Joint(Method):
    """L = CE(z, y).

    Linear probes on detached features learn beside it, so that each modality can be scored without any
    effect on the training (ours). There are no probes with decomposed logits, which come from the fusion, and
    none with a late fusion, whose fused loss trains the heads.
    """

    name = "joint"
    probes = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        # Loading a fusion searches for its file, so do it once and not in every step.
        late = load_fusion(config.model.fusion).late
        self._has_probes = config.model.unimodal != "decomposed" and not late

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        return self.with_probes(cross_entropy(outputs.fused, batch.labels), outputs, batch)

    def with_probes(self, loss: Tensor, outputs: Outputs, batch: Batch) -> Tensor:
        """Return a loss plus the loss of the probes, if there are any."""
        return loss + unimodal_cross_entropy(outputs, batch.labels) if self._has_probes else loss
