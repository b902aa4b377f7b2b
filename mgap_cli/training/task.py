"""Network and objective as one module, so that compilers, wrappers and checkpoints see one object."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mgap_cli.config import Config
from mgap_cli.errors import UnfitError, UsageError
from mgap_cli.files import MALFORMED
from mgap_cli.methods import build_objective
from mgap_cli.model.network import AudioVisualNetwork, Outputs
from mgap_cli.training.distributed import World

if TYPE_CHECKING:
    from mgap_cli.data.loading.loader import Batch


class Task(nn.Module):
    """What is trained. Its state dict holds the network and what the objective remembers.

    world: the processes that share each batch.
    """

    def __init__(self, config: Config, objective: str, classes: int, samples: int, world: World) -> None:
        super().__init__()
        self.world = world
        self.objective = build_objective(objective, config, samples)
        probes = self.objective.probes
        self.network = AudioVisualNetwork(config.model, classes, probes)

    def forward(self, batch: Batch) -> tuple[Tensor, Outputs]:
        """Return the loss of the whole batch, and its outputs without their gradients.

        Many processes run the network on a share each and the objective on all: its statistics over a
        batch are those of one process, and a smaller last share needs no weighting (ours).
        """
        outputs = self.network(batch.frames, batch.audio)
        if self.world.size > 1:
            outputs = self._of_all(outputs, len(batch.labels))
        return self.objective.loss(outputs, batch), outputs.detach()

    def _of_all(self, outputs: Outputs, total: int) -> Outputs:
        """Join the processes' logits in one exchange, as float32, which the losses are computed in."""
        logits = [outputs.fused, outputs.audio, outputs.visual, *(outputs.parts or ())]
        rows = torch.stack([z.float() for z in logits], dim=1)
        fused, audio, visual, *parts = self.world.join_rows(rows, total).unbind(dim=1)
        return Outputs(fused, audio, visual, (parts[0], parts[1]) if parts else None)


def build_task(config: Config, objective: str, classes: int, samples: int, world: World) -> Task:
    """Return a task whose initial weights depend on `train.seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        return Task(config, objective, classes, samples, world)


def network_from(content: dict[str, Any], config: Config, path: object) -> AudioVisualNetwork:
    """Return the network of a checkpoint; UnfitError if its tensors do not fit its own configuration.

    The network is first built without memory, so that a configuration of a huge network takes none.
    """
    # Pretrained weights were where training started: the checkpoint's own replace them.
    model = dataclasses.replace(config.model, audio_weights="", visual_weights="")
    classes = len(content["classes"])
    state = {k.removeprefix("network."): v for k, v in content["model"].items() if k.startswith("network.")}
    try:
        with torch.device("meta"):
            wanted = AudioVisualNetwork(model, classes).state_dict()
        if {k: (v.shape, v.dtype) for k, v in wanted.items()} != {
            k: (v.shape, v.dtype) for k, v in state.items()
        }:
            raise ValueError("other names, shapes or types")
        network = AudioVisualNetwork(model, classes)
        network.load_state_dict(state)
    except (RuntimeError, UsageError, *MALFORMED) as error:
        raise UnfitError(f"{path}: its tensors do not fit its own configuration.") from error
    return network
