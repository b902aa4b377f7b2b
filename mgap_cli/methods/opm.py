"""On-the-fly prediction modulation: the leading modality's features are dropped in some of the samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mgap_cli.config import Between, bounded, search_space
from mgap_cli.methods.attribution import detached_contributions
from mgap_cli.methods.base import Needs
from mgap_cli.methods.joint import Joint
from mgap_cli.model.network import FUSED, probabilities

if TYPE_CHECKING:
    from mgap_cli.methods.base import BudgetEpoch, Step
    from mgap_cli.model.network import Outputs

PAPER = "Wei et al., TPAMI 2024"


@dataclass(frozen=True)
class Settings:
    """drop: probability q of a drop if the modalities are equal. strength: lambda, which a lead adds to it.

    steps: share of the training steps that drop features. start: share of the epoch budget before the first
    drop. Both are as in the authors' program (start: 6 of 100 epochs).
    """

    drop: float = bounded(0.5, 0, 1)
    strength: float = bounded(0.5, 0)
    steps: float = bounded(0.7, 0, 1)
    start: float = bounded(0.06, 0, 1)


class Opm(Joint):
    """Joint training that drops the leading modality's features (OPM; Wei et al., TPAMI 2024).

    With p_m,i = softmax(phi_m,i)[y_i] and rho_m = sum_i p_m,i / sum_i p_n,i over the batch, n the other
    modality, the feature vector f_m,i of each sample becomes 0 with probability

        q_m = min(1, q (1 + lambda tanh(rho_m - 1)))  if rho_m > 1, else 0,

    before the fusion. All features are then divided by 1 - (sum_m D_m q_m) / (sum_m D_m), which keeps their
    expected sum. phi_m is the modality's contribution to the fused logits before the drop: W_m f_m + b/2 in
    an additive fusion, as published; in any other fusion (ours) found by passes with zeros, as in AGM (see
    `attribution`). The loss is CE(z, y) of the fused logits after the drop; joint's probes read the features
    before it. A step that drops nothing is a step of `joint`. The method needs two modalities. In each
    epoch's record, `modulated` says whether the epoch is one in which features are dropped.

    The text of the paper was not available: this is the formula of the authors' program
    (GeWu-Lab/BML_TPAMI2024, models/Classifier.py). There a step drops with probability 0.7, from the seventh
    epoch on; the command line's default of q is 0.5, that of its configuration file 0.4. It keeps the epoch
    that is best on the test set.
    """

    name = "opm"
    Settings = Settings
    space = search_space(drop=Between(0, 0.8), strength=Between(0, 1))
    needs = Needs(contributions=True, features=True, pair=True)

    def training_step(self, step: Step) -> None:
        outputs = step.forward()
        if self._modulates(step.epoch) and self._chance(step, 1) < self.settings.steps:
            fused = step.fuse(self._dropped(step, outputs))
            outputs = replace(outputs, logits={**outputs.logits, FUSED: fused})
        step.backward(self.loss(outputs, step.batch))
        step.update()

    def epoch_record(self, epoch: BudgetEpoch) -> dict[str, Any]:
        return {"modulated": self._modulates(epoch)}

    def _modulates(self, epoch: BudgetEpoch) -> bool:
        return bool(epoch.index / epoch.budget >= self.settings.start)

    def _dropped(self, step: Step, outputs: Outputs) -> dict[str, Tensor]:
        """Return the features (B, D) by modality after the drop."""
        contributions = detached_contributions(step, outputs)
        labels = step.batch.labels[:, None]
        first, second = (probabilities(part).gather(1, labels).sum() for part in contributions.values())
        rates = self._rate(first / second), self._rate(second / first)
        features = outputs.features
        sizes = [f.shape[1] for f in features.values()]
        lost = sum(size * rate for size, rate in zip(sizes, rates, strict=True)) / sum(sizes)
        changed = {}
        for (modality, f), rate in zip(features.items(), rates, strict=True):
            kept = self._chance(step, len(f)).to(f) >= rate
            changed[modality] = f * kept[:, None] / (1 - lost)
        return changed

    def _rate(self, lead: Tensor) -> Tensor:
        """Return q_m for rho_m."""
        options = self.settings
        rate = options.drop * (1 + options.strength * torch.tanh(lead - 1))
        return torch.where(lead > 1, rate.clamp(max=1), torch.zeros_like(rate))

    def _chance(self, step: Step, count: int) -> Tensor:
        """Return uniform numbers in [0, 1), drawn on the CPU to be the same for a seed on every device."""
        return torch.rand(count, generator=step.generator)
