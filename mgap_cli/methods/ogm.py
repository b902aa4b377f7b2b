"""On-the-fly gradient modulation: the leading encoder learns more slowly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from mgap_cli.config import Between, bounded, search_space
from mgap_cli.errors import UsageError
from mgap_cli.methods.attribution import detached_contributions
from mgap_cli.methods.base import BudgetEpoch, Needs
from mgap_cli.methods.joint import Joint
from mgap_cli.model.network import probabilities

if TYPE_CHECKING:
    from mgap_cli.config import Config
    from mgap_cli.data.loading.loader import Batch
    from mgap_cli.methods.base import Step
    from mgap_cli.model.network import Outputs

LEAST_SPREAD = 1e-8  # added to the noise's standard deviation, as in the authors' program

PAPER = "Peng et al., CVPR 2022"


@dataclass(frozen=True)
class Settings:
    """alpha: strength of the modulation.

    start, end: the window of modulation, as shares of the epoch budget, both included. The defaults are
    the published 0 and 50 of 100 epochs.
    """

    alpha: float = bounded(0.8, 0)
    start: float = bounded(0.0, 0, 1)
    end: float = bounded(0.5, 0, 1)


class Ogm(Joint):
    """Joint training that slows down the encoder of the leading modality.

    With p_m,i = softmax(phi_m,i)[y_i] and rho_a = sum_i p_a,i / sum_i p_v,i over the batch
    (rho_v = 1 / rho_a), the convolution gradients of an encoder with rho > 1 are multiplied by
    1 - tanh(alpha rho). phi_m is the modality's contribution to the fused logits: W_m f_m + b/2 in an
    additive fusion, as published. In any other fusion (ours) it is found by two more passes with one input of
    zero, as in AGM (see `attribution`).

    Gradients are modulated only in a window of the epoch budget. With epochs counted from 0 over all
    stages, epoch e of a budget of E epochs is in the window if start <= e / E <= end; nothing is rounded.
    With 0 and 0.5 these are epochs 0 to 50 of 100. That is the authors' program (GeWu-Lab/OGM-GE_CVPR2022,
    main.py: `modulation_starts <= epoch <= modulation_ends`, 0 and 50 of 100 epochs by default). Outside
    the window a step is the same as one of `joint`, bit for bit. In each
    epoch's record, `modulated` says whether the epoch is in the window.
    """

    name = "ogm"
    Settings = Settings
    space = search_space(alpha=Between(0.1, 2), end=Between(0.1, 1))
    needs = Needs(contributions=True, pair=True)
    noise: ClassVar[bool] = False

    def __init__(self, config: Config) -> None:
        """Raise UsageError if the window ends before it starts."""
        super().__init__(config)
        if self.settings.start > self.settings.end:
            raise UsageError(
                f"{self.name}.start is {self.settings.start:g} and {self.name}.end is "
                f"{self.settings.end:g}: no epoch would be modulated.",
                f"Set {self.name}.start to at most {self.name}.end, or train with --method joint.",
            )

    def training_step(self, step: Step) -> None:
        outputs = step.forward()
        if self._modulates(step.epoch):
            outputs = replace(outputs, contributions=detached_contributions(step, outputs))
        step.backward(self.loss(outputs, step.batch))
        self.edit_gradients(step)
        step.update()

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        if outputs.contributions:
            with torch.no_grad():
                first, second = (
                    probabilities(part).gather(1, batch.labels[:, None]).sum()
                    for part in outputs.contributions.values()
                )
                self._ratio = first / second
        return super().loss(outputs, batch)

    def epoch_record(self, epoch: BudgetEpoch) -> dict[str, Any]:
        return {"modulated": self._modulates(epoch)}

    def _modulates(self, epoch: BudgetEpoch) -> bool:
        # Shares are compared, because start * budget would be 28.999999999999996 for 0.29 of 100 epochs.
        return bool(self.settings.start <= epoch.index / epoch.budget <= self.settings.end)

    def edit_gradients(self, step: Step) -> None:
        if not self._modulates(step.epoch):
            return
        ratios = (self._ratio, 1 / self._ratio)
        for encoder, rho in zip(step.network.encoders.values(), ratios, strict=True):
            factor = torch.where(rho > 1, 1 - torch.tanh(self.settings.alpha * rho), torch.ones_like(rho))
            for parameter in encoder.parameters():
                if parameter.grad is None or parameter.grad.dim() != 4:
                    continue
                spread = parameter.grad.std() + LEAST_SPREAD
                parameter.grad.mul_(factor)
                if self.noise:
                    # The noise is drawn on the CPU, so that a seed gives the same noise on every device.
                    noise = torch.randn(parameter.shape, generator=step.generator)
                    parameter.grad.add_(noise.to(parameter.grad.device) * spread)
