"""Unimodal teachers: each encoder also imitates the features of a frozen network of its modality alone."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mgap_cli.config import at_least_zero, bounded
from mgap_cli.errors import UsageError
from mgap_cli.methods.base import (
    EVERYTHING,
    Method,
    Needs,
    RecipeStage,
    cross_entropy,
    unimodal_cross_entropy,
)
from mgap_cli.methods.unimodal import Unimodal

if TYPE_CHECKING:
    from mgap_cli.config import Config
    from mgap_cli.methods.base import Step
    from mgap_cli.model.network import MultimodalNetwork, Outputs

PAPER = "Du et al., ICML 2023"


@dataclass(frozen=True)
class Settings:
    """weight: lambda, the weight of the distance to the teachers' features; the default is ours.

    teachers: share of the epoch budget that every teacher trains for.
    """

    weight: float = at_least_zero(1.0)
    teachers: float = bounded(0.5, 0, 1, open_low=True)


class Umt(Method):
    """L = CE(z, y) + weight * sum_m mean_i |f_m,i - f_m,i^teacher|^2, the mean over the batch.

    UMT ("On Uni-Modal Feature Learning in Supervised Multi-Modal Learning"). A stage `teacher-m` trains each
    teacher by `unimodal` from new weights; then the stage `train` starts from new weights. All teachers
    together count as one part of the budget, because each trains one encoder; the student has the rest.
    The paper trains its teachers beforehand, outside the student's budget; the shared budget is ours. The
    authors' program was not compared. Linear probes on detached features score each modality, as in `joint`.
    """

    name = "umt"
    Settings = Settings
    needs = Needs(features=True, earlier=True)
    probes = True

    @classmethod
    def recipe(cls, config: Config, modalities: Sequence[str]) -> tuple[RecipeStage, ...]:
        """Return one stage per teacher, then the student's. UsageError if one of them has no epoch."""
        budget = config.train.epochs
        epochs = round(config.method_settings(cls.name).teachers * budget)
        if not 0 < epochs < budget:
            raise UsageError(
                f"umt.teachers leaves {epochs} of {budget} epochs for the teachers, and both parts need one.",
                "Set umt.teachers nearer to 0.5, or raise --epochs.",
            )
        teachers = [
            RecipeStage(f"teacher-{m}", epochs, Unimodal.name, {"modality": m}, fresh=True)
            for m in modalities
        ]
        names = tuple(stage.name for stage in teachers)
        return (*teachers, RecipeStage("train", budget - epochs, fresh=True, takes=names))

    def build(self, network: MultimodalNetwork, samples: int) -> None:
        super().build(network, samples)
        self.teacher = copy.deepcopy(network).requires_grad_(False)

    def parameter_groups(self, network: MultimodalNetwork) -> dict[str, Iterable[nn.Parameter]]:
        return {EVERYTHING: network.parameters()}

    def on_stage_start(self, earlier: Mapping[str, MultimodalNetwork]) -> None:
        """Take the encoder of each modality from the network that was trained on it alone."""
        for modality, encoder in self.teacher.encoders.items():
            if (network := earlier.get(f"teacher-{modality}")) is not None:
                encoder.load_state_dict(network.encoders[modality].state_dict())

    def train(self, mode: bool = True) -> Umt:
        """Set the training mode; the teachers always score in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def training_step(self, step: Step) -> None:
        with torch.no_grad():
            taught = step.forward(network=self.teacher).features
        outputs = step.forward()
        labels = step.batch.labels
        loss = cross_entropy(outputs.fused, labels) + self.settings.weight * _distance(outputs, taught)
        if self.config.model.unimodal != "decomposed":
            loss = loss + unimodal_cross_entropy(outputs, labels)
        step.backward(loss)
        step.update()


def _distance(outputs: Outputs, taught: Mapping[str, Tensor]) -> Tensor:
    """Return sum_m mean_i |f_m,i - f_m,i^teacher|^2, a scalar."""
    parts = [(f - taught[m]).square().sum(dim=1).mean() for m, f in outputs.features.items()]
    return torch.stack(parts).sum()
