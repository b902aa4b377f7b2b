"""Information acquisition regulation: the leading encoder is slowed down while it learns fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mgap_cli.config import Between, at_least_zero, count, search_space
from mgap_cli.methods.base import Method, cross_entropy, unimodal_cross_entropy
from mgap_cli.model.network import probabilities

if TYPE_CHECKING:
    from mgap_cli.data.loading.loader import Batch
    from mgap_cli.methods.base import BudgetEpoch, EpochContext, Step
    from mgap_cli.model.network import MultimodalNetwork, Outputs

PAPER = "Huang et al., CVPR 2025"


@dataclass(frozen=True)
class Settings:
    """beta: strength of the pull to the weights of the epoch's start.

    growth: an encoder is slowed down only while its Fisher trace grows by more than this share per epoch.
    window: epochs that the trace is summed over. beta and window are those of the authors' program.
    """

    beta: float = at_least_zero(0.95)
    growth: float = at_least_zero(0.05)
    window: int = count(10)


class InfoReg(Method):
    """Training of all heads that slows the leading encoder down early (InfoReg; Huang et al., CVPR 2025).

    The loss is CE(z, y) + sum_m CE(z_m, y). In each step, with s_m = sum_i softmax(z_m,i)[y_i] over the batch
    and m the leading modality, the one with the largest s_m, the gradient of its encoder's weights theta gets

        beta exp(tanh(s_m - mean of s over the others)) (theta - theta_0),

    where theta_0 are the weights at the epoch's start. This lasts as long as m is in its prime learning
    window. F_m(t), the trace of its Fisher information in epoch t, is the sum over layers of the mean squared
    gradient of the weights (matrices and kernels), summed over the epoch's steps. With S_m(t) its sum over
    the last `window` epochs, the window is open in the first epoch and while (S_m(t) - S_m(t - 1)) / S_m(t) >
    growth. The extension to more than two modalities is ours. Each epoch's record has `growth` by modality.

    Buffers: start_MODALITY_i, theta_0; traces (window + 1, M), the latest last; trace (M,), of this epoch so
    far; growth (M,). A step whose gradients are not finite adds nothing to the trace.

    Only the abstract of the paper was available: the formulas are those of the authors' program
    (GeWu-Lab/InfoReg_CVPR2025, main.py). That program uses the trace of the audio encoder only, has the limit
    0.04, and slows down the audio encoder only. Its branch for a leading visual encoder, with 0.1 in place of
    0.95, repeats the condition of the first branch and is never reached.
    """

    name = "inforeg"
    Settings = Settings
    space = search_space(beta=Between(0.1, 3, log=True), growth=Between(0, 0.2))
    traces: Tensor
    trace: Tensor
    growth: Tensor

    def build(self, network: MultimodalNetwork, samples: int) -> None:
        super().build(network, samples)
        for modality, encoder in network.encoders.items():
            for i, parameter in enumerate(encoder.parameters()):
                self.register_buffer(_start(modality, i), parameter.detach().clone())
        modalities = len(network.encoders)
        self.register_buffer("traces", torch.zeros(self.settings.window + 1, modalities))
        self.register_buffer("trace", torch.zeros(modalities))
        self.register_buffer("growth", torch.ones(modalities))

    def on_epoch_start(self, context: EpochContext) -> list[str]:
        """Measure the growth of each encoder's Fisher trace, and remember the encoders' weights."""
        if context.epoch:
            self.traces.copy_(torch.cat([self.traces[1:], self.trace[None]]))
            before, now = self.traces[:-1].sum(dim=0), self.traces[1:].sum(dim=0)
            self.growth.copy_(torch.where(now > 0, (now - before) / now, torch.zeros_like(now)))
        self.trace.zero_()
        for modality, encoder in context.network.encoders.items():
            for i, parameter in enumerate(encoder.parameters()):
                getattr(self, _start(modality, i)).copy_(parameter.detach())
        return []

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        return cross_entropy(outputs.fused, batch.labels) + unimodal_cross_entropy(outputs, batch.labels)

    def training_step(self, step: Step) -> None:
        outputs = step.forward()
        step.backward(self.loss(outputs, step.batch))
        strengths = self._strengths(outputs, step.batch.labels)
        traces = []
        for strength, (modality, encoder) in zip(strengths, step.network.encoders.items(), strict=True):
            squares = [torch.zeros_like(strength)]
            for i, parameter in enumerate(encoder.parameters()):
                if parameter.grad is not None:
                    parameter.grad.add_(strength * (parameter.detach() - getattr(self, _start(modality, i))))
                    if parameter.dim() > 1:
                        squares.append(parameter.grad.square().mean())
            traces.append(torch.stack(squares).sum())
        trace = torch.stack(traces)
        self.trace.add_(torch.where(torch.isfinite(trace), trace, torch.zeros_like(trace)))
        step.update()

    def _strengths(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """Return the strength of the pull on each encoder, (M,); above 0 for the leading one at most."""
        with torch.no_grad():
            each = [probabilities(z).gather(1, labels[:, None]).sum() for z in outputs.unimodal.values()]
            scores = torch.stack(each)
            lead = scores - (scores.sum() - scores) / (len(scores) - 1)
            leads = torch.arange(len(scores), device=scores.device) == scores.argmax()
            strength = self.settings.beta * torch.tanh(lead).exp()
            return torch.where(leads & (self.growth > self.settings.growth), strength, 0)

    def epoch_record(self, epoch: BudgetEpoch) -> dict[str, Any]:
        modalities = self.heads[1:]
        return {"growth": dict(zip(modalities, self.growth.tolist(), strict=True))}


def _start(modality: str, index: int) -> str:
    return f"start_{modality}_{index}"
