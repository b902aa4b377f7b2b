"""Methods built for a small network, and batches, outputs and steps for their tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mgap_cli.config import Config
from mgap_cli.data.loading.loader import Batch
from mgap_cli.gap.scores import Scores
from mgap_cli.methods import load_method
from mgap_cli.methods.base import BudgetEpoch, Method, with_required_model
from mgap_cli.model.network import FUSED, MultimodalNetwork, Outputs

HEADS = (FUSED, "audio", "visual")
CLASSES = 5
EXAMPLES = Path(__file__).resolve().parents[1] / "methods" / "examples"
EXAMPLE_CLASSES = {
    "learned_weights": "LearnedWeights",
    "alternating": "Alternating",
    "frozen_teacher": "FrozenTeacher",
    "gradient_surgery": "GradientSurgery",
    "restarted": "Restarted",
}


def example(name: str) -> str:
    """Return the value of `--method` for an example method."""
    return f"{EXAMPLES / name}.py:{EXAMPLE_CLASSES[name]}"


def configured(**settings: Any) -> Config:
    """Return settings with a small network; `section__key` may stand for `section.key`."""
    small = {"model.encoder": "resnet10", "model.width": 4}
    return Config().updated(small | {k.replace("__", "."): v for k, v in settings.items()}, "test")


def network_for(name: str, config: Config, classes: int = CLASSES) -> MultimodalNetwork:
    """Return a new network that fits a method."""
    method = load_method(name)
    return MultimodalNetwork(with_required_model(method, config).model, classes, method.probes)


def built(
    name: str, config: Config | None = None, samples: int = 40, network: MultimodalNetwork | None = None
) -> Method:
    """Return a method, built for a network (default: a new small one) and a store of `samples` rows."""
    config = config or configured()
    method = load_method(name)(config)
    method.build(network or network_for(name, config), samples)
    return method


def outputs_of(fused: Tensor, audio: Tensor, visual: Tensor) -> Outputs:
    """Return outputs with these logits alone."""
    return Outputs(dict(zip(HEADS, (fused, audio, visual), strict=True)), {}, {})


def batch_of(index: Tensor, labels: Tensor, inputs: Mapping[str, Tensor] | None = None) -> Batch:
    """Return a batch; a loss reads no inputs."""
    return Batch(index, labels, dict(inputs or {}), torch.zeros_like(index))


@dataclass
class GradientStep:
    """The part of a training step that `Method.edit_gradients` reads."""

    network: MultimodalNetwork
    epoch: BudgetEpoch
    generator: torch.Generator = field(default_factory=torch.Generator)


@dataclass
class ScoredEpoch:
    """The start of an epoch with given scores, which counts how often a method reads them."""

    given: Scores
    index: np.ndarray
    epoch: int = 0
    calls: int = 0

    def scores(self, split: str = "train") -> tuple[Scores, np.ndarray]:
        assert split == "train"
        self.calls += 1
        return self.given, self.index
