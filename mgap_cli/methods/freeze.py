"""Joint training that freezes the stronger encoder for a part of the budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mgap_cli.config import bounded
from mgap_cli.errors import UsageError
from mgap_cli.methods.base import BudgetEpoch, Method, cross_entropy, unimodal_cross_entropy

if TYPE_CHECKING:
    from mgap_cli.config import Config
    from mgap_cli.data.loading.loader import Batch
    from mgap_cli.methods.base import EpochContext, Step
    from mgap_cli.model.network import MultimodalNetwork, Outputs

PAPER = "ours, after the suppression in G2D, ICCV 2025"


@dataclass(frozen=True)
class Settings:
    """start, end: the window in which the encoder is frozen, as shares of the epoch budget.

    `start` is included, `end` is not. The defaults are ours: G2D orders its phases by a score per batch.
    """

    start: float = bounded(0.2, 0, 1)
    end: float = bounded(0.5, 0, 1)


class Freeze(Method):
    """L = CE(z, y) + sum_m CE(z_m, y), without updates of the stronger encoder in a window of the budget.

    At the start of each epoch in the window, the encoder whose unimodal head has the highest accuracy on
    validation is frozen for that epoch: it gets no gradient, and its batch norm keeps its statistics. The
    heads and the fusion still learn. Each epoch's record has `frozen`, the modality or null.

    Buffer: frozen, the position of the frozen modality; -1 for none.
    """

    name = "freeze"
    Settings = Settings
    frozen: Tensor

    def __init__(self, config: Config) -> None:
        """Raise UsageError if the window ends before it starts."""
        super().__init__(config)
        if self.settings.start >= self.settings.end:
            raise UsageError(
                f"freeze.start is {self.settings.start:g} and freeze.end is {self.settings.end:g}: "
                "no epoch would be in the window.",
                "Set freeze.start below freeze.end, or train with --method joint-heads.",
            )

    def build(self, network: MultimodalNetwork, samples: int) -> None:
        super().build(network, samples)
        self.register_buffer("frozen", torch.tensor(-1))
        self.modalities = tuple(network.encoders)

    def on_epoch_start(self, context: EpochContext) -> list[str]:
        """Choose the encoder to freeze in this epoch."""
        place = context.budget_epoch
        if not self.settings.start <= place.index / place.budget < self.settings.end:
            self.frozen.fill_(-1)
            return []
        found = context.predictions("val")
        right = [float((found.probabilities[m].argmax(1) == found.labels).mean()) for m in self.modalities]
        strongest = right.index(max(right))
        self.frozen.fill_(strongest)
        figures = ", ".join(f"{m} {value:.1%}" for m, value in zip(self.modalities, right, strict=True))
        return [f"the {self.modalities[strongest]} encoder is frozen (validation: {figures})"]

    def training_step(self, step: Step) -> None:
        position = int(self.frozen)
        encoder = step.network.encoders[self.modalities[position]] if position >= 0 else None
        if encoder is not None:
            encoder.eval()  # the trainer sets training mode again before the next epoch
        step.backward(self.loss(step.forward(), step.batch))
        if encoder is not None:
            for parameter in encoder.parameters():
                parameter.grad = None
        step.update()

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        return cross_entropy(outputs.fused, batch.labels) + unimodal_cross_entropy(outputs, batch.labels)

    def epoch_record(self, epoch: BudgetEpoch) -> dict[str, Any]:
        position = int(self.frozen)
        return {"frozen": self.modalities[position] if position >= 0 else None}
