"""All heads, weighted by what they are worth on validation: one pool of them decides after each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mgap_cli.config import Between, bounded, search_space
from mgap_cli.methods.base import Method, Needs, cross_entropy, unimodal_cross_entropy
from mgap_cli.stats.opinion_pool import log_probabilities, pool_weights

if TYPE_CHECKING:
    from mgap_cli.config import Config
    from mgap_cli.methods.base import BudgetEpoch, EpochContext, Step
    from mgap_cli.model.network import MultimodalNetwork

PAPER = "ours"
JOINT = "joint"  # the name of the joint layer in the record of an epoch

Arguments = tuple[dict[str, Tensor], dict[str, Tensor]]


@dataclass(frozen=True)
class Settings:
    """dropout: weight of the joint layer's loss without one modality, of its loss with and without it.

    coupling: share of the joint layer's gradient that reaches the encoders; with 0 it trains none.
    """

    dropout: float = bounded(0.5, 0, 1)
    coupling: float = bounded(1.0, 0, 1)


class Pooled(Method):
    """Joint layer and heads decide together, each with a weight that validation gives it (ours).

    z_J = W [f_1; ...; f_M] + b is the joint layer's output for the features f_m, and z_m the logits of
    modality m's head. z_D is z_J with features of 0 in place of one modality's, which is drawn for each
    sample and step. Training, with d for `dropout`:

        L = (1 - d) CE(z_J, y) + d CE(z_D, y) + sum_m CE(z_m, y),

    with `coupling` times the gradient of z_J and z_D in the features. This is modality dropout (ModDrop;
    Neverova et al., 2016) of one modality at most, with the mean over whether one is dropped in place of a
    draw (ours), so that the joint layer cannot rely on one modality alone. With d = 0 the training is that
    of `joint-heads`. The decision, fusion `pool`, is

        z = beta_J z_J + sum_m beta_m z_m,      beta >= 0.

    The weights minimise, at each epoch's end, the sum over the n validation samples of CE(z_i, y_i), plus
    sum_e (beta_e - 1 / (M + 1))^2 / 2 over the M + 1 experts e: with few samples the pool is the geometric
    mean of their probabilities. So a branch that memorises its training samples, or does not know the class,
    loses its weight, however sure it is, and an overconfident one becomes less sure. The epoch is then
    validated with these weights, on the samples that they were fitted on: they are M + 1 numbers, but
    validation accuracy is a little higher for them than for a method that fits nothing.

    Any number of modalities. It needs a validation split. Each epoch's record has `pool`, beta by expert.
    """

    name = "pooled"
    Settings = Settings
    space = search_space(dropout=Between(0, 1), coupling=Between(0, 1))
    needs = Needs(features=True)

    @classmethod
    def model(cls, config: Config) -> dict[str, Any]:
        return {"model.fusion": "pool", "model.unimodal": "heads"}

    def build(self, network: MultimodalNetwork, samples: int) -> None:
        super().build(network, samples)
        self.modalities = tuple(network.encoders)
        self.fitted: dict[str, float] = {}  # by expert, since the end of the epoch that is being recorded
        network.fusion.register_forward_pre_hook(self._couple)

    def training_step(self, step: Step) -> None:
        outputs, labels = step.forward(), step.batch.labels
        joint, share = cross_entropy(outputs.fused, labels), self.settings.dropout
        if share:
            dropped = cross_entropy(step.fuse(_without_one(step, outputs.features)), labels)
            joint = (1 - share) * joint + share * dropped
        step.backward(joint + unimodal_cross_entropy(outputs, labels))
        step.update()

    def on_epoch_end(self, context: EpochContext) -> list[str]:
        """Fit the pool on validation."""
        weights = context.network.fusion.weights
        assert isinstance(weights, Tensor)
        joint_alone = torch.zeros_like(weights)
        joint_alone[0] = 1
        weights.copy_(joint_alone)
        predictions = context.predictions("val")
        experts = (JOINT, *self.modalities)
        heads = (self.heads[0], *self.modalities)
        opinions = {e: predictions.probabilities[h] for e, h in zip(experts, heads, strict=True)}
        self.fitted = pool_weights(log_probabilities(opinions), predictions.labels)
        weights.copy_(torch.tensor([self.fitted[e] for e in experts]).to(weights))
        return ["pool: " + ", ".join(f"{expert} {beta:.2f}" for expert, beta in self.fitted.items())]

    def epoch_record(self, epoch: BudgetEpoch) -> dict[str, Any]:
        return {"pool": self.fitted}

    def _couple(self, fusion: Any, arguments: Arguments) -> Arguments:
        """Return the pool's arguments, with a share of the way back to the encoders."""
        features, logits = arguments
        share = float(self.settings.coupling)
        if share == 1:
            return arguments
        return {m: share * f + (1 - share) * f.detach() for m, f in features.items()}, logits


def _without_one(step: Step, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return features (B, D) by modality, in each row with 0 in place of one modality's."""
    # The modality is drawn on the CPU, so that a seed gives the same one on every device.
    draws = torch.randint(len(features), (len(step.batch.labels),), generator=step.generator)
    missing = draws.to(step.batch.labels.device)
    return {m: f * (missing != i).to(f)[:, None] for i, (m, f) in enumerate(features.items())}
