"""Boosting over modalities: each in turn learns from the errors of the others, then all are corrected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mgap_cli.config import at_least_zero, count, positive
from mgap_cli.methods.base import Method, cross_entropy
from mgap_cli.model.network import probabilities

if TYPE_CHECKING:
    from mgap_cli.config import Config
    from mgap_cli.methods.base import BudgetEpoch, Step
    from mgap_cli.model.network import MultimodalNetwork

PAPER = "Hua et al., ICML 2024"


@dataclass(frozen=True)
class Settings:
    """w1: weight of the modality's own cross-entropy. w2: its reduction where the others are right.

    epochs: epochs of one modality's turn. correction: epochs of all modalities together after each turn.
    The defaults are the published values for CREMA-D.
    """

    w1: float = positive(5.0)
    w2: float = at_least_zero(1.0)
    epochs: int = count(4)
    correction: int = count(4)


class ReconBoost(Method):
    """Alternating boosting of the modalities (ReconBoost; Hua et al., ICML 2024).

    The modalities take turns in their order. In the turn of m, which has `epochs` epochs, only its encoder
    and head are trained, with the others fixed, in eval mode:

        L = mean_i -(1/C) (w1 - w2 q_i) log softmax(z_m,i)[y_i],   q_i = softmax(beta sum_{n != m} z_n,i)[y_i]

    Then all modalities are trained for `correction` epochs by CE(beta sum_m z_m, y), beta learned from 1.
    That sum is also the decision, fusion `late-scaled`. The budget may end within a turn. Each epoch's record
    has `turn`, the modality or null.

    The authors' program (huacong/ReconBoost, train.py) adds a distance of both predictions that has no
    gradient, because both are detached; it is left out here. Its README starts from unimodal networks that
    are already trained, its heads are one shared head of two layers (here `model.unimodal` decides between
    separate linear heads and a shared one), it makes a new optimizer in each turn (here the optimizer keeps
    its state), its fixed modalities are in training mode, and it chooses the best of up to 1001 turns on the
    test set.
    """

    name = "reconboost"
    Settings = Settings

    @classmethod
    def model(cls, config: Config) -> dict[str, Any]:
        return {"model.fusion": "late-scaled"}

    def build(self, network: MultimodalNetwork, samples: int) -> None:
        super().build(network, samples)
        self.modalities = tuple(network.encoders)

    def training_step(self, step: Step) -> None:
        modality = self._turn(step.epoch)
        if modality is None:
            loss = cross_entropy(step.forward().fused, step.batch.labels)
        else:
            loss = self._boosting_loss(step, modality)
        step.backward(loss)
        step.update()

    def epoch_record(self, epoch: BudgetEpoch) -> dict[str, Any]:
        return {"turn": self._turn(epoch)}

    def _turn(self, epoch: BudgetEpoch) -> str | None:
        """Return the modality that an epoch trains; None for an epoch of correction."""
        number, place = divmod(epoch.index, self.settings.epochs + self.settings.correction)
        return self.modalities[number % len(self.modalities)] if place < self.settings.epochs else None

    def _boosting_loss(self, step: Step, modality: str) -> Tensor:
        others = [m for m in self.modalities if m != modality]
        for m in others:
            step.network.encoders[m].eval()  # the trainer sets training mode again before the next epoch
        labels = step.batch.labels[:, None]
        with torch.no_grad():
            logits = torch.stack(list(step.forward(only=others).unimodal.values())).sum(dim=0)
            scale = step.network.fusion.scale
            assert isinstance(scale, Tensor)
            known = probabilities(scale * logits).gather(1, labels).squeeze(1)
        log_p = torch.log_softmax(step.forward(only=[modality]).unimodal[modality], dim=1)
        w1, w2 = float(self.settings.w1), float(self.settings.w2)
        weight = (w1 - w2 * known) / log_p.shape[1]
        return -(weight * log_p.gather(1, labels).squeeze(1)).mean()
