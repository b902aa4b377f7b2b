"""A method with a frozen teacher: the features stay near those of a network that was trained before."""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch

from mgap_cli.methods.base import Method, Needs, cross_entropy
from mgap_cli.runs.checkpoint import load_checkpoint


@dataclass(frozen=True)
class Settings:
    teacher: str = ""
    weight: float = 1.0


class FrozenTeacher(Method):
    """L = CE(z, y) + weight * sum_m mean |f_m - f_m^teacher|^2."""

    name = "frozen-teacher"
    Settings = Settings
    needs = Needs(features=True)

    def build(self, network, samples):
        super().build(network, samples)
        self.heads = ("fused",)
        model = load_checkpoint(Path(self.settings.teacher)).model
        weights = {k.removeprefix("network."): v for k, v in model.items() if k.startswith("network.")}
        self.teacher = copy.deepcopy(network).requires_grad_(False)
        self.teacher.load_state_dict(weights)

    def train(self, mode=True):
        super().train(mode)
        self.teacher.eval()
        return self

    def training_step(self, step):
        with torch.no_grad():
            taught = step.forward(network=self.teacher).features
        outputs = step.forward()
        distance = sum((f - taught[m]).square().mean() for m, f in outputs.features.items())
        step.backward(cross_entropy(outputs.fused, step.batch.labels) + self.settings.weight * distance)
        step.update()
