"""A learned balance between the cross-entropy of the mean of the heads and their agreement."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mgap_cli.config import Between, OneOf, at_least_zero, bounded, search_space
from mgap_cli.methods.base import Method, cross_entropy, sum_of_gradients

if TYPE_CHECKING:
    from mgap_cli.config import Config
    from mgap_cli.methods.base import BudgetEpoch, Step
    from mgap_cli.model.network import MultimodalNetwork, Outputs

PAPER = "Yang et al., NeurIPS 2024"
LEAST, MOST = 0.05, 0.95  # bounds of the weight of the agreement


@dataclass(frozen=True)
class Settings:
    """agreement: the weight a_1 of the agreement term at the start.

    schedule: `hypergradient` learns a_1, `constant` keeps it. rate: step size of the hypergradient.
    """

    agreement: float = bounded(0.795, LEAST, MOST)
    schedule: Literal["hypergradient", "constant"] = "hypergradient"
    rate: float = at_least_zero(1e-4)


class Lfm(Method):
    """Cross-entropy and agreement of the heads, with a learned balance (LFM; Yang et al., NeurIPS 2024).

    With z = mean_m z_m and p_m = softmax(z_m):

        L = 2 [a_0 CE(z, y) + a_1 JS(p_a, p_v)],     a_0 + a_1 = 1,

    JS the Jensen-Shannon divergence, averaged over the batch and, for more than two modalities (ours), over
    all pairs. The decision is the mean of the heads, fusion `late-mean`. After each step

        a_1 <- a_1 + rate <grad CE, grad JS - grad CE>,     kept in [0.05, 0.95]:

    to first order, a step lowers CE by 2 (learning rate) <grad CE, a_0 grad CE + a_1 grad JS>, whose slope in
    a_1 is proportional to that product (ours). Both gradients are of the training batch, before the step.

    Buffer: agreement, a_1, which `metrics.jsonl` has for each epoch. A gradient that is not finite does not
    change it.

    The authors' program was not available. BalanceBenchmark's LFM moves a_1 once per epoch by the mean of one
    layer's entries of a Hessian-vector product on a quarter of one validation batch, and starts with 0.05.
    """

    name = "lfm"
    Settings = Settings
    space = search_space(agreement=Between(LEAST, MOST), schedule=OneOf("hypergradient", "constant"))
    agreement: Tensor

    @classmethod
    def model(cls, config: Config) -> dict[str, Any]:
        return {"model.fusion": "late-mean"}

    def build(self, network: MultimodalNetwork, samples: int) -> None:
        super().build(network, samples)
        self.register_buffer("agreement", torch.tensor(float(self.settings.agreement)))

    def training_step(self, step: Step) -> None:
        outputs = step.forward()
        weights = 2 * (1 - self.agreement), 2 * self.agreement
        losses = cross_entropy(outputs.fused, step.batch.labels), disagreement(outputs)
        weighted = step.gradients([w * loss for w, loss in zip(weights, losses, strict=True)])
        step.set_gradients(sum_of_gradients(weighted))
        if self.settings.schedule == "hypergradient":
            fit, agree = ({n: g / w for n, g in of.items()} for of, w in zip(weighted, weights, strict=True))
            shared = [(fit[n] * (agree[n] - fit[n])).sum() for n in fit if n in agree]
            alone = [-fit[n].square().sum() for n in fit if n not in agree]
            self._learn(torch.stack(shared + alone).sum())
        step.update()

    def _learn(self, slope: Tensor) -> None:
        new = (self.agreement + self.settings.rate * slope).clamp(LEAST, MOST)
        self.agreement.copy_(torch.where(torch.isfinite(slope), new, self.agreement))

    def epoch_record(self, epoch: BudgetEpoch) -> dict[str, Any]:
        return {"agreement": float(self.agreement)}


def disagreement(outputs: Outputs) -> Tensor:
    """Return the mean Jensen-Shannon divergence, in nats, over the batch and all pairs of unimodal heads."""
    log_p = [F.log_softmax(z, dim=1) for z in outputs.unimodal.values()]
    pairs = list(combinations(log_p, 2))
    return torch.stack([_jensen_shannon(a, b) for a, b in pairs]).mean()


def _jensen_shannon(a: Tensor, b: Tensor) -> Tensor:
    """Return the divergence of two batches of log-probabilities (B, C)."""
    middle = torch.logaddexp(a, b) - torch.log(torch.full((), 2.0, dtype=a.dtype, device=a.device))
    return 0.5 * _kullback_leibler(a, middle) + 0.5 * _kullback_leibler(b, middle)


def _kullback_leibler(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return the batch's mean Kullback-Leibler divergence of p from q."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()
