"""Joint layer and unimodal heads, with weights that are fitted on validation after each epoch (ours)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mgap_cli.config import Between, bounded, search_space
from mgap_cli.methods.base import Method, Needs, cross_entropy, kept_rows, unimodal_cross_entropy
from mgap_cli.stats.opinion_pool import log_probabilities, pool_weights

if TYPE_CHECKING:
    from mgap_cli.config import Config
    from mgap_cli.methods.base import BudgetEpoch, EpochContext, Step
    from mgap_cli.model.network import MultimodalNetwork

PAPER = "ours"
JOINT = "joint"  # name of the joint layer in the record of an epoch

Arguments = tuple[dict[str, Tensor], dict[str, Tensor]]


@dataclass(frozen=True)
class Settings:
    """dropout: share of the joint layer's loss that is computed without one modality.

    coupling: share of the joint layer's gradient that reaches the encoders; with 0, it does not train them.
    """

    dropout: float = bounded(0.0, 0, 1)
    coupling: float = bounded(1.0, 0, 1)


class Pooled(Method):
    """The joint layer and the heads decide together, with weights that are fitted on validation (ours).

    z_J = W [f_1; ...; f_M] + b is the joint layer's output for the features f_m, and z_m the logits of
    modality m's head. z_D is z_J with the features of one modality set to 0; this modality is drawn for each
    sample and step. With d for `dropout`, the loss is

        L = (1 - d) CE(z_J, y) + d CE(z_D, y) + sum_m CE(z_m, y),

    where the gradients of z_J and z_D with respect to the features are multiplied by `coupling`. With the
    default values, d = 0 and `coupling` 1, the training is that of `joint-heads`. With d > 0 it has modality
    dropout (ModDrop; Neverova et al., 2016) of at most one modality, so that the joint layer cannot rely on
    one modality alone; instead of drawing whether a modality is dropped, the loss takes the mean of both
    cases (ours). The decision (fusion `pool`) is

        z = beta_J z_J + sum_m beta_m z_m,      beta >= 0.

    At the end of each epoch, the weights are fitted: they minimise the sum of CE(z_i, y_i) over the n
    validation samples, plus sum_e (beta_e - 1 / (M + 1))^2 / 2 over the M + 1 experts e (the joint layer and
    the M heads). With few samples, the pool is therefore near the geometric mean of their probabilities. A
    branch that memorises its training samples, or that has not learnt the class, gets a small weight, even if
    it is confident; the weight of an overconfident branch becomes smaller. The epoch is then validated with
    these weights, on the samples to which they were fitted. There are only M + 1 weights, but validation
    accuracy is a little higher than for a method that fits nothing.

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
        self.fitted: dict[str, float] = {}  # beta by expert, fitted at the end of the current epoch
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
        """Return the arguments of the pool; `coupling` scales the gradient that reaches the encoders."""
        features, logits = arguments
        share = float(self.settings.coupling)
        if share == 1:
            return arguments
        return {m: share * f + (1 - share) * f.detach() for m, f in features.items()}, logits


def _without_one(step: Step, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return features (B, D) by modality; in each row, the features of one modality are 0."""
    # The modality is drawn on the CPU, so that a seed gives the same one on every device.
    draws = torch.randint(len(features), (len(step.batch.labels),), generator=step.generator)
    missing = draws.to(step.batch.labels.device)
    return {m: kept_rows(f, missing != i) for i, (m, f) in enumerate(features.items())}
