"""Network and objective as one module, so that compilers, wrappers and checkpoints see one object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mgap_cli.config import Config
from mgap_cli.errors import UnfitError
from mgap_cli.model.network import AudioVisualNetwork, Outputs
from mgap_cli.objectives import build_objective

if TYPE_CHECKING:
    from mgap_cli.data.loader import Batch


class Task(nn.Module):
    """What is trained. Its state dict holds the network and what the objective remembers."""

    def __init__(self, config: Config, objective: str, classes: int, samples: int) -> None:
        super().__init__()
        self.objective = build_objective(objective, config, samples)
        probes = self.objective.probes
        self.network = AudioVisualNetwork(config.model, classes, probes)

    def forward(self, batch: Batch) -> tuple[Tensor, Outputs]:
        outputs = self.network(batch.frames, batch.audio)
        return self.objective.loss(outputs, batch), outputs


def build_task(config: Config, objective: str, classes: int, samples: int) -> Task:
    """Return a task whose initial weights depend on `train.seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        return Task(config, objective, classes, samples)


def network_from(content: dict[str, Any], config: Config, path: object) -> AudioVisualNetwork:
    """Return the network of a checkpoint; UnfitError if its tensors do not fit its own configuration."""
    network = AudioVisualNetwork(config.model, len(content["classes"]))
    state = {k.removeprefix("network."): v for k, v in content["model"].items() if k.startswith("network.")}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise UnfitError(f"{path}: its tensors do not fit its own configuration.") from error
    return network
