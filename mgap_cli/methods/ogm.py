"""On-the-fly gradient modulation (Peng et al., CVPR 2022): the leading encoder learns slower."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from mgap_cli.errors import UsageError
from mgap_cli.methods.joint import Joint
from mgap_cli.model.network import probabilities

if TYPE_CHECKING:
    from torch import Tensor

    from mgap_cli.config import Config
    from mgap_cli.data.loading.loader import Batch
    from mgap_cli.methods.base import BudgetEpoch
    from mgap_cli.model.network import AudioVisualNetwork, Outputs

_LEAST_SPREAD = 1e-8  # added to the noise's standard deviation, as in the authors' program


class Ogm(Joint):
    """Joint training with discrepancy-driven gradients.

    With p_m,i = softmax(W_m f_m + b/2)[y_i] and rho_a = sum_i p_a,i / sum_i p_v,i over the batch
    (rho_v = 1 / rho_a), the convolution gradients of an encoder with rho > 1 are multiplied by
    1 - tanh(alpha rho).

    Gradients are modulated only in a window of the epoch budget (`ogm.start`, `ogm.end`: shares of it).
    With epochs counted from 0 over both stages, epoch e of a budget of E epochs is in the window if
    start <= e / E <= end. Both ends are included and nothing is rounded: with 0 and 0.5, these are epochs
    0 to 50 of 100, and 0 to 2 of 5. That is the authors' program (GeWu-Lab/OGM-GE_CVPR2022, main.py:
    `modulation_starts <= epoch <= modulation_ends`, 0 and 50 of 100 epochs by default). Outside the window
    a step is `joint`'s, bit for bit. Each epoch's record says whether it was `modulated`.

    Raises UsageError if `ogm.start` is greater than `ogm.end`.
    """

    name = "ogm"
    needs_parts = True
    noise = False

    def __init__(self, config: Config, samples: int) -> None:
        super().__init__(config, samples)
        start, end = config.ogm.start, config.ogm.end
        if start > end:
            raise UsageError(
                f"ogm.start is {start:g}, ogm.end {end:g}: objective {self.name} would never modulate.",
                "Set ogm.start to at most ogm.end, or train with --objective joint.",
            )

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        assert outputs.parts is not None
        with torch.no_grad():
            audio, visual = (
                probabilities(part).gather(1, batch.labels[:, None]).sum() for part in outputs.parts
            )
            self._ratio = audio / visual
        return super().loss(outputs, batch)

    def epoch_record(self, epoch: BudgetEpoch) -> dict[str, Any]:
        return {"modulated": self._modulates(epoch)}

    def _modulates(self, epoch: BudgetEpoch) -> bool:
        # Compared as shares: start * budget would be 28.999999999999996 for 0.29 of 100 epochs.
        return self.config.ogm.start <= epoch.index / epoch.budget <= self.config.ogm.end

    def after_backward(
        self, network: AudioVisualNetwork, outputs: Outputs, epoch: BudgetEpoch, generator: torch.Generator
    ) -> None:
        if not self._modulates(epoch):
            return
        alpha = self.config.ogm.alpha
        for encoder, rho in ((network.audio_encoder, self._ratio), (network.visual_encoder, 1 / self._ratio)):
            factor = torch.where(rho > 1, 1 - torch.tanh(alpha * rho), torch.ones_like(rho))
            for parameter in encoder.parameters():
                if parameter.grad is None or parameter.grad.dim() != 4:
                    continue
                spread = parameter.grad.std() + _LEAST_SPREAD
                parameter.grad.mul_(factor)
                if self.noise:
                    # Drawn on the CPU, so that a seed means the same noise on every device.
                    noise = torch.randn(parameter.shape, generator=generator)
                    parameter.grad.add_(noise.to(parameter.grad.device) * spread)


class OgmGe(Ogm):
    """OGM with generalisation enhancement: noise is added to every convolution gradient in the window.

    The noise is N(0, s^2) with s the standard deviation of that gradient before it is modulated, plus 1e-8.
    Both encoders get it, the one that is not slowed too.
    """

    name = "ogm-ge"
    noise = True
