"""A checkpoint opened for use: its network on a device, beside the data that it was trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mgap_cli.config import Config
from mgap_cli.data.loading.loader import Loader
from mgap_cli.data.store import Store
from mgap_cli.errors import UsageError
from mgap_cli.files import file_digest
from mgap_cli.gap.scores import Scores, scores_of
from mgap_cli.methods import registry
from mgap_cli.model.inference import Predictions
from mgap_cli.model.network import AudioVisualNetwork
from mgap_cli.runs.checkpoint import config_of, load_checkpoint, matching_store
from mgap_cli.training.distributed import join, predict_together
from mgap_cli.training.step_guard import explained
from mgap_cli.training.task import network_from


@dataclass(frozen=True)
class TrainedModel:
    """`content` is the checkpoint's, `heads` those that its objective trained or probed."""

    path: Path
    content: dict[str, Any]
    config: Config
    network: AudioVisualNetwork
    store: Store
    device: torch.device

    @property
    def heads(self) -> tuple[str, ...]:
        return registry()[self.content["objective"]].heads

    @property
    def digest(self) -> str:
        """SHA-256 of the checkpoint's file: by it, what was found can be told from what is out of date."""
        return file_digest(self.path)

    def predict(self, split: str) -> Predictions:
        """Run the network over every sample of a split, in store order."""
        config = self.config
        indices = self.store.indices(split)
        size = config.runtime.eval_batch_size

        def load(some: np.ndarray) -> Loader:
            return Loader(self.store, some, self.device, config.augment, size)

        with explained(self.device, "--set runtime.eval_batch_size=", min(size, len(indices))):
            return predict_together(self.network, load, indices, join(self.device))

    def scores(self, split: str) -> Scores:
        """Return the per-sample table of a split.

        Raises UsageError if a modality was not trained, whose scores would mean nothing.
        """
        untrained = {"audio", "visual"} - set(self.heads)
        if untrained:
            objective = self.content["objective"]
            raise UsageError(
                f"{self.path}: its objective was {objective}, which leaves {untrained.pop()} untrained.",
                "The gap needs both: train with --objective joint-heads or joint.",
            )
        return scores_of(self.predict(split), self.store.ids, self.store.classes, self.store.columns)


def open_trained(
    path: Path, device: torch.device, store: Path | None = None, batch_size: int | None = None
) -> TrainedModel:
    """Open a checkpoint and its store (`store`, or where the checkpoint says it is).

    It scores in batches of `batch_size`, if that is smaller than what it was trained with.
    Raises UnfitError if either is missing or damaged, or if they do not belong together.
    """
    content = load_checkpoint(path)
    config = config_of(content, path)
    size = min(batch_size or math.inf, config.runtime.eval_batch_size)
    config = config.updated({"runtime.eval_batch_size": size}, str(path))
    network = network_from(content, config, path).to(device).to(memory_format=torch.channels_last).eval()
    return TrainedModel(path, content, config, network, matching_store(content, path, store), device)
