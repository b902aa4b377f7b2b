"""The adaptive loss: the mixture's posteriors weight each sample.

The loss has three aims, which are those of arXiv 2510.21797: smaller gaps, imbalanced samples moved towards
the balanced ones, and a heavier penalty on imbalanced samples. So is the fusion loss, which prefers balanced
samples. The formulas are ours:

    L = mean_i[ w_i CE(z_i, y_i) ]  +  sum_m mean_i[ CE(z_m,i, y_i) ]
      + lambda_gap   * mean_i[ (1 + beta r_i) d_i ]
      + lambda_shift * mean_i[ r_i (u_i - mu_b)^2 ]        (or the KL divergence below)

with r_i the posterior of imbalance and mu_b the balanced component's mean of the last fit (both without
gradient), u_i the absolute gap of the sample, and w_i = 1 + alpha (1 - r_i), scaled to mean 1 over the batch.
With signed gaps, which need two modalities, g_i replaces u_i in the shift term.

d_i is the sum over the pairs of modalities (a, v) of the gap in nats, |log p_a,i - log p_v,i|, or of
|p_a,i - p_v,i| (`gap_scale = probability`). u_i is the mean over the pairs of |p_a,i - p_v,i|: the mixture is
over u_i (`gap.scores`). For two modalities there is one pair, so sum and mean are equal. The gradient of
u_i in a logit has the factor p (1 - p) of the lagging modality: it vanishes where that modality is
confidently wrong, which is where the gap is widest. In nats it does not. With `stop_gradient = leading` the
term is the lagging modality's cross-entropy, up to a constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mgap_cli.config import (
    Between,
    GapScale,
    ScoreSource,
    Shift,
    StopGradient,
    at_least_zero,
    count,
    search_space,
)
from mgap_cli.gap.mixture import IMBALANCED, Mixture, fit_mixture, require_gap_kind
from mgap_cli.methods.base import BudgetEpoch, Method, Needs, RecipeStage, unimodal_cross_entropy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mgap_cli.config import Config
    from mgap_cli.data.loading.loader import Batch
    from mgap_cli.methods.base import EpochContext
    from mgap_cli.model.network import MultimodalNetwork, Outputs

PAPER = "arXiv 2510.21797"


@dataclass(frozen=True)
class Settings:
    """Coefficients of the posterior-weighted loss.

    alpha: how much the fusion loss prefers balanced samples. beta: extra weight of imbalanced samples in the
    gap term. lambda_gap, lambda_shift: weights of the gap and the shift term. gap_scale: the unit of gaps in
    the gap term. stop_gradient: `leading` closes gaps upwards only, because the leading modality gets no
    gradient from the gap term. shift: form of the shift term. scores: the scores to which the mixture is
    refitted, from one `pass` in eval mode or the last `online` scores of training. refit_every: epochs
    between refits.
    """

    alpha: float = at_least_zero(0.0)
    beta: float = at_least_zero(1.0)
    lambda_gap: float = at_least_zero(3.0)
    lambda_shift: float = at_least_zero(1.0)
    gap_scale: GapScale = "log"
    stop_gradient: StopGradient = "leading"
    shift: Shift = "squared"
    scores: ScoreSource = "pass"
    refit_every: int = count(1)


class Adaptive(Method):
    """The posterior-weighted loss, with the mixture refitted at the start of an epoch.

    Buffers: posterior (N,) of every sample of the store; online_gap (N,), each sample's latest gap in
    training, NaN before the first; mean and standard deviation of the balanced component. Two buffers are for
    the record of an epoch that is resumed in its middle. components (K, 3): weight, mean and standard
    deviation, NaN for components that were not fitted. fitted (4,): the epoch of the fit (from 1), the number
    of its samples, the number of balanced ones, and the position of the balanced component.
    """

    name = "adaptive"
    Settings = Settings
    space = search_space(lambda_gap=Between(0.1, 10, log=True), lambda_shift=Between(0.1, 10, log=True))
    needs = Needs(trained_start=True)
    posterior: Tensor
    online_gap: Tensor
    balanced_mean: Tensor
    balanced_sd: Tensor
    components: Tensor
    fitted: Tensor

    @classmethod
    def recipe(cls, config: Config, modalities: Sequence[str]) -> tuple[RecipeStage, ...]:
        """Return the warm-up, then this loss for the rest of the budget; UsageError if nothing is left."""
        config.epochs_after_warmup()
        warmup = RecipeStage("warmup", config.warmup.epochs, config.warmup.method)
        return warmup, RecipeStage("adapt", config.adapt.epochs)

    def build(self, network: MultimodalNetwork, samples: int) -> None:
        super().build(network, samples)
        self.modalities = tuple(network.encoders)
        require_gap_kind(self.config.gap, self.modalities)
        self.register_buffer("posterior", torch.zeros(samples))
        self.register_buffer("online_gap", torch.full((samples,), torch.nan))
        self.register_buffer("balanced_mean", torch.zeros(()))
        self.register_buffer("balanced_sd", torch.ones(()))
        self.register_buffer("components", torch.full((self.config.gap.components, 3), torch.nan))
        self.register_buffer("fitted", torch.zeros(4, dtype=torch.int64))

    def on_epoch_start(self, context: EpochContext) -> list[str]:
        """Refit the mixture every `refit_every` epochs."""
        if context.epoch % self.settings.refit_every:
            return []
        seen = torch.nonzero(torch.isfinite(self.online_gap))[:, 0].cpu().numpy()
        if self.settings.scores == "online" and len(seen):
            index, gap = seen, self.online_gap[seen].cpu().numpy().astype(np.float64)
        else:
            held_out = self.config.gap.scores == "held-out"
            scores, index = context.held_out_scores() if held_out else context.scores()
            gap = scores.gap
        mixture, warnings = fit_mixture(gap, self.config.gap)
        posterior = mixture.posterior(gap)
        self.posterior[torch.from_numpy(index)] = torch.from_numpy(posterior).to(self.posterior)
        self.balanced_mean.fill_(float(mixture.means[mixture.balanced]))
        self.balanced_sd.fill_(float(mixture.sds[mixture.balanced]))
        self._remember(mixture, context.epoch + 1, posterior)
        roles = [mixture.role(k, self.modalities) for k in range(len(mixture.weights))]
        parts = ", ".join(
            f"{role} {mixture.weights[k]:.2f} at {mixture.means[k]:.3f} (sd {mixture.sds[k]:.3f})"
            for k, role in enumerate(roles)
        )
        return [f"mixture: {parts}; {np.mean(posterior < IMBALANCED):.1%} balanced", *warnings]

    def epoch_record(self, epoch: BudgetEpoch) -> dict[str, Any]:
        """Return the mixture that weighted the epoch; it was fitted at the start of `fitted_epoch`."""
        fitted_epoch, samples, balanced, component = self.fitted.tolist()
        kept = self.components[torch.isfinite(self.components[:, 0])].cpu().numpy().astype(np.float64)
        weights, means, sds = kept.T
        mixture = Mixture(self.config.gap.kind, weights, means, sds, component)
        components = [
            {"role": mixture.role(k, self.modalities), "weight": weight, "mean": mean, "sd": sd}
            for k, (weight, mean, sd) in enumerate(kept.tolist())
        ]
        record = {"kind": mixture.gap_kind, "components": components, "balanced_share": balanced / samples}
        return {"mixture": {"fitted_epoch": fitted_epoch, "n": samples, **record}}

    def _remember(self, mixture: Mixture, epoch: int, posterior: np.ndarray) -> None:
        rows = torch.from_numpy(np.stack([mixture.weights, mixture.means, mixture.sds], axis=1))
        self.components.fill_(torch.nan)
        self.components[: len(rows)] = rows.to(self.components)
        balanced = int((posterior < IMBALANCED).sum())
        self.fitted.copy_(torch.tensor([epoch, len(posterior), balanced, mixture.balanced]))

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        options = self.settings
        labels = batch.labels
        logs = [_true_log_probability(z, labels) for z in outputs.unimodal.values()]
        p = [log.exp() for log in logs]
        gaps = _gaps(p, options.stop_gradient)
        u = _total([g.abs() for g in gaps]) / len(gaps)
        value = u if self.config.gap.kind == "absolute" else gaps[0]
        with torch.no_grad():
            self.online_gap[batch.index] = gaps[0] if len(gaps) == 1 else u
        r = self.posterior[batch.index]
        w = 1 + options.alpha * (1 - r)
        w = w / w.mean()
        fused = (w * F.cross_entropy(outputs.fused.float(), labels, reduction="none")).mean()
        measured = _gaps(logs, options.stop_gradient) if options.gap_scale == "log" else gaps
        distance = _total([d.abs() for d in measured])
        gap = ((1 + options.beta * r) * distance).mean()
        if options.shift == "squared":
            shift = (r * (value - self.balanced_mean) ** 2).mean()
        else:
            shift = _shift_kl(value, r, self.balanced_mean, self.balanced_sd, self.config.gap.sd_floor)
        total: Tensor = (
            fused
            + unimodal_cross_entropy(outputs, labels)
            + options.lambda_gap * gap
            + options.lambda_shift * shift
        )
        return total


def _true_log_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """Return log softmax(logits)[label], (B,), in float32 for logits of any precision."""
    return F.log_softmax(logits.float(), dim=1).gather(1, labels[:, None])[:, 0]


def _gaps(scores: Sequence[Tensor], stop_gradient: str) -> list[Tensor]:
    """Return the signed gap (B,) of every pair of modalities, for (B,) scores of each."""
    return [_gap(a, v, stop_gradient) for a, v in combinations(scores, 2)]


def _total(values: Sequence[Tensor]) -> Tensor:
    """Return the sum of tensors; for a single tensor, return it unchanged."""
    total, *others = values
    for value in others:
        total = total + value
    return total


def _gap(a: Tensor, v: Tensor, stop_gradient: str) -> Tensor:
    """Return a - v, (B,); with stop_gradient=leading the gradient reaches the smaller of the two only."""
    if stop_gradient == "none":
        return a - v
    first_leads = a >= v
    return torch.where(first_leads, a.detach(), a) - torch.where(first_leads, v, v.detach())


def _shift_kl(value: Tensor, r: Tensor, mean: Tensor, sd: Tensor, sd_floor: float) -> Tensor:
    """Return KL(N(m, s^2) || N(mean, sd^2)), m and s^2 weighted by r over the batch; 0 if r is 0.

    The weights r / sum(r) sum to 1, so only the ratios of the posteriors count and not their size.
    """
    mass = r.sum()
    share = r / torch.where(mass > 0, mass, torch.ones_like(mass))
    m = (share * value).sum()
    variance = (share * (value - m) ** 2).sum() + sd_floor**2
    kl = 0.5 * (sd**2 / variance).log() + (variance + (m - mean) ** 2) / (2 * sd**2) - 0.5
    return torch.where(mass > 0, kl, torch.zeros_like(kl))
