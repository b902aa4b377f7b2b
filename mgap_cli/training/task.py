"""Network and method in one module, so that checkpoints, devices and broadcasts handle one object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from mgap_cli.methods import load_method
from mgap_cli.modalities.audio_visual import AUDIO_VISUAL
from mgap_cli.modalities.modality import Modality
from mgap_cli.model.network import MultimodalNetwork

if TYPE_CHECKING:
    from mgap_cli.config import Config


class Task(nn.Module):
    """The object that is trained. Its state dict holds the network and what the method remembers."""

    def __init__(
        self,
        config: Config,
        method: str,
        classes: int,
        samples: int,
        modalities: Sequence[Modality] = AUDIO_VISUAL,
    ) -> None:
        super().__init__()
        method_type = load_method(method)
        self.network = MultimodalNetwork(config.model, classes, method_type.probes, modalities)
        self.method = method_type(config)
        self.method.build(self.network, samples)


def build_task(
    config: Config, method: str, classes: int, samples: int, modalities: Sequence[Modality] = AUDIO_VISUAL
) -> Task:
    """Return a task whose initial weights depend on `train.seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        return Task(config, method, classes, samples, modalities)
