"""What an objective is: a loss over the network's outputs, and hooks around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from mgap_cli.errors import UsageError
from mgap_cli.gap.scores import Scores
from mgap_cli.model.fusion import ADDITIVE
from mgap_cli.model.network import HEADS

if TYPE_CHECKING:
    import numpy as np
    import torch

    from mgap_cli.config import Config
    from mgap_cli.data.loading.loader import Batch
    from mgap_cli.model.network import AudioVisualNetwork, Outputs

    # Scores of the training split in eval mode, and the samples' positions in the store.
    ScorePass = Callable[[], tuple[Scores, np.ndarray]]


@dataclass(frozen=True)
class BudgetEpoch:
    """One epoch, seen in the whole budget of both stages together.

    index: epochs of the budget before it, so the first epoch of the first stage has 0. budget: epochs
    of the whole budget, which is also what the learning rate's schedule spans.
    """

    index: int
    budget: int


class Objective(nn.Module):
    """Base of every objective. What it must remember goes into buffers: they are saved with the model.

    name: as the command line has it. heads: those that the objective trains or probes, the ones worth
    reporting; the first decides which epoch is best. probes: unimodal heads measure without training
    their encoders. needs_parts: reads the additive fusion's shares.
    """

    name: ClassVar[str] = ""
    heads: ClassVar[tuple[str, ...]] = HEADS
    probes: ClassVar[bool] = False
    needs_parts: ClassVar[bool] = False

    def __init__(self, config: Config, samples: int) -> None:
        super().__init__()
        self.config = config
        if self.needs_parts and config.model.fusion not in ADDITIVE:
            raise UsageError(
                f"objective {self.name} reads the fusion's halves; {config.model.fusion} has none.",
                f"Use --fusion {' or '.join(ADDITIVE)}.",
            )

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the scalar loss of a batch."""
        raise NotImplementedError

    def on_epoch_start(self, epoch: int, score: ScorePass) -> list[str]:
        """Prepare for epoch `epoch` (from 0); return lines for the log."""
        return []

    def epoch_record(self, epoch: BudgetEpoch) -> dict[str, Any]:
        """Return plain values to keep of `epoch`, which ends; a resumed epoch must have the same."""
        return {}

    def after_backward(
        self, network: AudioVisualNetwork, outputs: Outputs, epoch: BudgetEpoch, generator: torch.Generator
    ) -> None:
        """Change gradients between backward and the optimizer's step.

        `epoch` is the one that the step belongs to; `generator` is the step's own.
        """


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the batch's mean cross-entropy, in float32 whatever the logits came in."""
    return F.cross_entropy(logits.float(), labels)


def unimodal_cross_entropy(outputs: Outputs, labels: Tensor) -> Tensor:
    """Return CE(z_a, y) + CE(z_v, y)."""
    return cross_entropy(outputs.audio, labels) + cross_entropy(outputs.visual, labels)
