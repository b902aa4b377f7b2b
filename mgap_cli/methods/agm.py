"""Adaptive gradient modulation: each modality's share of the gradient has its own factor, in any fusion."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from mgap_cli.config import Between, at_least_zero, search_space
from mgap_cli.methods.attribution import zero_input_contributions
from mgap_cli.methods.base import cross_entropy
from mgap_cli.methods.joint import Joint
from mgap_cli.model.network import FUSED, full_precision

if TYPE_CHECKING:
    from mgap_cli.methods.base import Step
    from mgap_cli.model.network import MultimodalNetwork

PAPER = "Li et al., ICCV 2023"
LARGEST_EXCESS = 10.0  # largest tau_m - r_m, as published
LARGEST_SCORE = -math.log(1e-8)  # largest -log softmax(phi_m)[y] of a sample, as in the authors' program


@dataclass(frozen=True)
class Settings:
    """alpha: strength of the modulation; the default is the published value for CREMA-D.

    clip: where the fusion has a gradient above this size, all gradients are clipped to this norm; 0 turns it
    off. The default is the authors' program's.
    """

    alpha: float = at_least_zero(1.5)
    clip: float = at_least_zero(1.0)


class Agm(Joint):
    """Joint training whose gradient is modulated by modality (AGM; Li et al., ICCV 2023).

    The fused logits are divided into contributions phi_m, z = sum_m phi_m, by passes with inputs of zero
    (see `attribution`), which works with every fusion. With s_m the batch's mean of -log softmax(phi_m)[y],
    at most -log 1e-8 per sample, and s'_m its mean over all iterations before this one:

        r_m = exp(mean of s over the others - s_m),   tau_m = exp(mean of s' over the others - s'_m),
        k_m = exp(alpha min(tau_m - r_m, 10)).

    r_m above tau_m says that m is further ahead than usual: k_m < 1 slows it down. With g = dCE(z, y) / dz,
    detached, the step back-propagates <g, sum_m k_m phi_m>; with all k_m = 1 that is the gradient of
    CE(z, y). The train loss is CE(z, y), plus that of the probes.

    The factors k_m reach e^(10 alpha). If a gradient of the fusion's parameters is larger than `clip` in
    size, the gradients are scaled to the norm `clip`, those of the probes left out. The paper does not
    mention this; the authors' program does it (issue 6 of lihongcs/AGM on GitHub).

    Buffers: mean_scores (M,), s' by modality; iterations, the number of batches in this mean. A batch whose
    scores are not finite is left out. The extension to more than two modalities is ours, as in `attribution`.

    In the authors' program the zeros also reach the running statistics of the batch norms. BalanceBenchmark's
    AGM sends no gradients through the passes with zeros: it multiplies the gradients of each encoder's
    weights by k_m. Its r_m and tau_m have the opposite sign.
    """

    name = "agm"
    Settings = Settings
    space = search_space(alpha=Between(0.1, 5))
    mean_scores: Tensor
    iterations: Tensor

    def build(self, network: MultimodalNetwork, samples: int) -> None:
        super().build(network, samples)
        self.register_buffer("mean_scores", torch.zeros(len(network.encoders)))
        self.register_buffer("iterations", torch.zeros((), dtype=torch.int64))

    def training_step(self, step: Step) -> None:
        outputs = step.forward()
        labels, fused = step.batch.labels, outputs.fused
        contributions = zero_input_contributions(step, fused)
        scores = torch.stack([_score(part.detach(), labels) for part in contributions.values()])
        factors = self._factors(scores)
        self._remember(scores)
        (slope,) = torch.autograd.grad(cross_entropy(fused, labels), fused, retain_graph=True)
        shares = torch.stack([(slope * part).sum() for part in contributions.values()])
        modulated = (factors * shares).sum()
        # This has the value of the fused loss and the gradient of the modulated loss.
        without = replace(outputs, logits={**outputs.logits, FUSED: fused.detach()})
        step.backward(self.loss(without, step.batch) + (modulated - modulated.detach()))
        self.edit_gradients(step)
        step.update()

    def edit_gradients(self, step: Step) -> None:
        clip: float = self.settings.clip
        network = step.network
        # A late fusion has no parameters, and the fused loss trains the heads in its place.
        deciding = network.heads if network.fusion.late else network.fusion
        trained = [network.encoders, deciding]
        gradients = [p.grad for module in trained for p in module.parameters() if p.grad is not None]
        of_decision = [p.grad for p in deciding.parameters() if p.grad is not None]
        if not clip or not of_decision:
            return
        largest = torch.stack([gradient.abs().max() for gradient in of_decision]).max()
        factor = (clip / torch.nn.utils.get_total_norm(gradients)).clamp(max=1)
        # The condition stays on the device, so that a GPU does not wait for it.
        torch._foreach_mul_(gradients, torch.where(largest > clip, factor, torch.ones_like(factor)))

    def _factors(self, scores: Tensor) -> Tensor:
        """Return k_m, (M,), for the scores s_m of a batch."""
        excess = _lead(self.mean_scores).exp() - _lead(scores).exp()
        alpha: float = self.settings.alpha
        return (alpha * excess.clamp(max=LARGEST_EXCESS)).exp()

    def _remember(self, scores: Tensor) -> None:
        finite = torch.isfinite(scores).all()
        count = self.iterations + finite
        step = (scores - self.mean_scores) / count.clamp_min(1)
        self.mean_scores.copy_(torch.where(finite, self.mean_scores + step, self.mean_scores))
        self.iterations.copy_(count)


def _score(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the batch's mean of -log softmax(logits)[y], at most LARGEST_SCORE per sample."""
    losses = F.cross_entropy(full_precision(logits), labels, reduction="none")
    return losses.clamp(max=LARGEST_SCORE).mean()


def _lead(scores: Tensor) -> Tensor:
    """Return how far each loss (M,) is below the mean of the others."""
    others = (scores.sum() - scores) / (len(scores) - 1)
    return others - scores
