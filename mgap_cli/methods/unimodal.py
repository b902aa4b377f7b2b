"""One modality alone: the reference for what each could do without the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from mgap_cli.methods.base import Objective, cross_entropy

if TYPE_CHECKING:
    from mgap_cli.data.loading.loader import Batch
    from mgap_cli.model.network import Outputs


class UnimodalAudio(Objective):
    """L = CE(z_a, y)."""

    name = "unimodal-audio"
    heads = ("audio",)

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        return cross_entropy(outputs.audio, batch.labels)


class UnimodalVisual(Objective):
    """L = CE(z_v, y)."""

    name = "unimodal-visual"
    heads = ("visual",)

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        return cross_entropy(outputs.visual, batch.labels)
