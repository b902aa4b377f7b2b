"""On-the-fly gradient modulation (Peng et al., CVPR 2022): the leading encoder learns slower."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mgap_cli.model.network import probabilities
from mgap_cli.objectives.joint import Joint

if TYPE_CHECKING:
    from torch import Tensor

    from mgap_cli.data.loader import Batch
    from mgap_cli.model.network import AudioVisualNetwork, Outputs


class Ogm(Joint):
    """Joint training with discrepancy-driven gradients.

    With p_m,i = softmax(W_m f_m + b/2)[y_i] and rho_a = sum_i p_a,i / sum_i p_v,i over the batch
    (rho_v = 1 / rho_a), the convolution gradients of an encoder with rho > 1 are multiplied by
    1 - tanh(alpha rho).
    """

    name = "ogm"
    needs_parts = True
    noise = False

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        assert outputs.parts is not None
        with torch.no_grad():
            audio, visual = (
                probabilities(part).gather(1, batch.labels[:, None]).sum() for part in outputs.parts
            )
            self._ratio = audio / visual
        return super().loss(outputs, batch)

    def after_backward(
        self, network: AudioVisualNetwork, outputs: Outputs, generator: torch.Generator
    ) -> None:
        alpha = self.config.ogm.alpha
        for encoder, rho in ((network.audio_encoder, self._ratio), (network.visual_encoder, 1 / self._ratio)):
            factor = torch.where(rho > 1, 1 - torch.tanh(alpha * rho), torch.ones_like(rho))
            for parameter in encoder.parameters():
                if parameter.grad is None or parameter.grad.dim() != 4:
                    continue
                spread = parameter.grad.std()
                parameter.grad.mul_(factor)
                if self.noise:
                    # Drawn on the CPU, so that a seed means the same noise on every device.
                    noise = torch.randn(parameter.shape, generator=generator)
                    parameter.grad.add_(noise.to(parameter.grad.device) * spread)


class OgmGe(Ogm):
    """OGM with generalisation enhancement: N(0, std(gradient)^2) joins every convolution gradient."""

    name = "ogm-ge"
    noise = True
