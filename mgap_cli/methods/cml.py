"""Calibrated multimodal learning: a prediction may not grow more confident when a modality is removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mgap_cli.config import Between, at_least_zero, search_space
from mgap_cli.methods.base import Needs, cross_entropy, kept_rows
from mgap_cli.methods.joint import Joint
from mgap_cli.model.network import probabilities

if TYPE_CHECKING:
    from mgap_cli.methods.base import Step
    from mgap_cli.model.network import Outputs

PAPER = "Ma et al., ICML 2023"


@dataclass(frozen=True)
class Settings:
    """weight: lambda, the weight of the confidence that rises; the default is ours."""

    weight: float = at_least_zero(1.0)


class Cml(Joint):
    """Training with a penalty on confidence that rises without a modality (CML; Ma et al., ICML 2023).

    Each sample loses its modalities one after the other, in a random order, down to one: z_0 = z are the
    fused logits with all M of them, z_k those without k, in whose place the fusion gets features of 0. With
    c_k,i = max softmax(z_k,i):

        L = 1/M sum_{k=0}^{M-1} CE(z_k, y) + lambda sum_{k=1}^{M-1} mean_i max(0, c_k,i - c_{k-1},i).

    The clamp is per sample, as in the paper: a fall in the confidence of one sample does not compensate a
    rise in another. The gradient reaches both confidences. The method works with any number of modalities and
    any fusion. The probes of `joint` are trained beside it; the train loss is L plus their loss.

    Only the abstract of the paper was available; the random order and L's first term are those of the
    authors' program (GitHub: QingyangZhang, CML, miwae/train.py). It fills removed inputs with their means,
    sums the clamps over the batch, counts them only where the prediction with more modalities is right, and
    adds another term where both are wrong. The weight in its instructions, 0.1 of the sum over a batch of
    200, would be a lambda of 20 here. BalanceBenchmark's CML clamps the sum over the batch, and has one order
    per epoch for all samples.
    """

    name = "cml"
    Settings = Settings
    space = search_space(weight=Between(0.1, 20, log=True))
    needs = Needs(features=True)

    def training_step(self, step: Step) -> None:
        outputs = step.forward()
        predicted = [outputs.fused, *self._without(step, outputs)]
        fit = torch.stack([cross_entropy(z, step.batch.labels) for z in predicted])
        confidence = torch.stack([probabilities(z).amax(dim=1) for z in predicted])
        rises = confidence.diff(dim=0).clamp_min(0).mean(dim=1).sum()
        step.backward(self.with_probes(fit.mean() + self.settings.weight * rises, outputs, step.batch))
        step.update()

    def _without(self, step: Step, outputs: Outputs) -> list[Tensor]:
        """Return the fused logits without one modality, without two, and so on; each sample has its own
        order."""
        features = outputs.features
        # The order is drawn on the CPU, so that a seed gives the same order on every device.
        draws = torch.rand(len(step.batch.labels), len(features), generator=step.generator)
        rank = draws.argsort(dim=1).argsort(dim=1)  # of each modality in the order of the sample
        return [
            step.fuse({m: kept_rows(f, rank[:, i] >= removed) for i, (m, f) in enumerate(features.items())})
            for removed in range(1, len(features))
        ]
