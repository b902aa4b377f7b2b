"""Gradient blending: each head's loss is weighted by how much copies of it generalised and overfitted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mgap_cli.config import Between, bounded, search_space
from mgap_cli.errors import UsageError
from mgap_cli.methods.base import Method, Needs, RecipeStage, cross_entropy
from mgap_cli.methods.joint import Joint
from mgap_cli.methods.unimodal import Unimodal
from mgap_cli.model.network import FUSED

if TYPE_CHECKING:
    from mgap_cli.config import Config
    from mgap_cli.data.loading.loader import Batch
    from mgap_cli.methods.base import BudgetEpoch, EpochContext
    from mgap_cli.model.network import MultimodalNetwork, Outputs

PAPER = "Wang et al., CVPR 2020"
LEAST_OVERFITTING = 0.01  # in nats; with less, a ratio of two small numbers would decide the weights


@dataclass(frozen=True)
class Settings:
    """copies: share of the epoch budget that each copy trains for; the default is ours."""

    copies: float = bounded(0.2, 0, 1, open_low=True)


class GBlend(Method):
    """L = w_f CE(z, y) + sum_m w_m CE(z_m, y) (offline G-Blend; Wang, Tran and Feiszli, CVPR 2020).

    First a copy of the network is trained for each head k alone: `unimodal` for each modality, `joint` for
    the fused head. With its mean losses per sample L_k, in eval mode,

        G_k = ln C - L_k,val,     O_k = L_k,val - L_k,train,     w_k proportional to G_k / O_k^2,

    Here G_k is how much the copy learned, and O_k is how much it overfitted, since the start. At the start
    both losses count as ln C, the loss of a uniform prediction (ours). The weights sum to 1. A copy with G_k
    below 0 has weight 0, |O_k| counts as 0.01 at least, and if no copy learned, all weights are the same (all
    three: ours). Then a stage from new weights trains with L. Each epoch's record has `weights` by head. It
    needs a validation split.

    The unimodal copies together count as one part of the budget, because each trains one encoder; the fused
    copy is another one, and the last stage has the rest (ours).

    Buffer: weights (M + 1,), of the fused head and each modality's.

    The authors' program and the text of the paper were not available. BalanceBenchmark's version compares
    sums of batch losses of splits that differ in size, takes the training losses of a whole epoch of
    training, measures from the end of the first epoch, and takes |G_k|.
    """

    name = "gblend"
    Settings = Settings
    space = search_space(copies=Between(0.1, 0.3))
    needs = Needs(earlier=True)
    weights: Tensor

    @classmethod
    def recipe(cls, config: Config, modalities: Sequence[str]) -> tuple[RecipeStage, ...]:
        """Return one stage per copy, then the blended one. UsageError if it would have no epoch."""
        budget = config.train.epochs
        epochs = max(1, round(config.method_settings(cls.name).copies * budget))
        if 2 * epochs >= budget:
            raise UsageError(
                f"gblend.copies: the copies take twice {epochs} of {budget} epochs, and the blended stage "
                "needs one.",
                "Set gblend.copies below 0.5, or raise --epochs.",
            )
        copies = [
            RecipeStage(_copy(m), epochs, Unimodal.name, {"modality": m}, fresh=True) for m in modalities
        ]
        copies.append(RecipeStage(_copy(FUSED), epochs, Joint.name, fresh=True))
        names = tuple(stage.name for stage in copies)
        return (*copies, RecipeStage("train", budget - 2 * epochs, fresh=True, takes=names))

    def build(self, network: MultimodalNetwork, samples: int) -> None:
        super().build(network, samples)
        self.register_buffer("weights", torch.full((len(self.heads),), 1 / len(self.heads)))
        self.copies: dict[str, MultimodalNetwork] = {}

    def on_stage_start(self, earlier: Mapping[str, MultimodalNetwork]) -> None:
        """Keep the copies, by head, until the weights are known."""
        self.copies = {head: earlier[_copy(head)] for head in self.heads}

    def on_epoch_start(self, context: EpochContext) -> list[str]:
        """Compute the weights before the first epoch."""
        copies, self.copies = self.copies, {}
        if context.epoch:
            return []
        ratios, lines = [], []
        for head, copy in copies.items():
            copy.to(self.weights.device)
            train, val = (context.predictions(split, copy).mean_loss(head) for split in ("train", "val"))
            gain = max(0.0, math.log(copy.classes) - val)
            ratios.append(gain / max(LEAST_OVERFITTING, abs(val - train)) ** 2)
            lines.append(f"{head}: loss {train:.3f} on train, {val:.3f} on validation")
        total = sum(ratios)
        weights = [ratio / total for ratio in ratios] if total else [1 / len(ratios)] * len(ratios)
        self.weights.copy_(torch.tensor(weights, dtype=self.weights.dtype))
        return [f"{line}; weight {weight:.3f}" for line, weight in zip(lines, weights, strict=True)]

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        losses = torch.stack([cross_entropy(outputs.logits[head], batch.labels) for head in self.heads])
        return (self.weights * losses).sum()

    def epoch_record(self, epoch: BudgetEpoch) -> dict[str, Any]:
        return {"weights": dict(zip(self.heads, self.weights.tolist(), strict=True))}


def _copy(head: str) -> str:
    """Return the stage that trains the copy for a head."""
    return f"copy-{head}"
