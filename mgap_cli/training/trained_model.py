"""A checkpoint opened for use: its network on a device, beside the data that it was trained on."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mgap_cli.config import Config, GapScores
from mgap_cli.data.loading.loader import Loader
from mgap_cli.data.store import Store
from mgap_cli.errors import UnfitError, UsageError
from mgap_cli.files import MALFORMED, file_digest
from mgap_cli.gap.held_out import held_out_scores
from mgap_cli.gap.scores import Scores, scores_of
from mgap_cli.model.inference import Predictions
from mgap_cli.model.network import MultimodalNetwork
from mgap_cli.runs.checkpoint import Checkpoint, load_checkpoint, matching_store
from mgap_cli.training.distributed import join, predict_together
from mgap_cli.training.step_guard import explained


@dataclass(frozen=True)
class TrainedModel:
    """A checkpoint's network on a device, with the store that it was trained on.

    config: the checkpoint's settings, with this machine's batch size for scoring.
    """

    path: Path
    checkpoint: Checkpoint
    config: Config
    network: MultimodalNetwork
    store: Store
    device: torch.device

    @property
    def heads(self) -> tuple[str, ...]:
        """Return the heads that the checkpoint's method trained or probed."""
        return self.checkpoint.heads

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the checkpoint's file, which shows which results are out of date."""
        return file_digest(self.path)

    def predict(self, split: str, features: bool = False) -> Predictions:
        """Run the network over every sample of a split, in store order; features: return them too."""
        config = self.config
        indices = self.store.indices(split)
        size = config.runtime.eval_batch_size

        def load(some: np.ndarray) -> Loader:
            return Loader(self.store, some, self.device, config.augment, size)

        with explained(self.device, "--set runtime.eval_batch_size=", min(size, len(indices))):
            return predict_together(self.network, load, indices, join(self.device), features)

    @property
    def scores_every_modality(self) -> bool:
        """Return whether the unimodal heads of all modalities were trained, as the gap needs."""
        return set(self.heads) >= set(self.network.encoders)

    def scores(self, split: str, source: GapScores = "pass") -> Scores:
        """Return the per-sample table of a split.

        source: `held-out` scores the training split by linear heads that did not see the sample, and other
        splits, which are held out, as `pass` does. Raises UsageError if a modality was not trained, whose
        scores would mean nothing.
        """
        if source == "held-out" and split == "train":
            return self.training_scores()[1]
        self._require_every_modality()
        return self._scores_of(self.predict(split))

    def training_scores(self) -> tuple[Scores, Scores]:
        """Return the training split's scores by `pass` and by `held-out`, from one pass of the network.

        Raises UsageError as `scores` does.
        """
        self._require_every_modality()
        predictions = self.predict("train", features=True)
        scores = self._scores_of(predictions)
        return scores, held_out_scores(predictions, scores)

    def _scores_of(self, predictions: Predictions) -> Scores:
        return scores_of(predictions, self.store.ids, self.store.classes, self.store.columns)

    def _require_every_modality(self) -> None:
        untrained = set(self.network.encoders) - set(self.heads)
        if untrained:
            raise UsageError(
                f"{self.path}: trained with {self.checkpoint.method}, which leaves the "
                f"{' and the '.join(sorted(untrained))} branch untrained.",
                "The gap needs all branches: train with --method joint-heads or joint.",
            )


def open_trained(
    path: Path, device: torch.device, store: Path | None = None, batch_size: int | None = None
) -> TrainedModel:
    """Open a checkpoint and its store (`store`, or where the checkpoint says it is).

    It scores in batches of `batch_size`, if that is smaller than what it was trained with.
    Raises UnfitError if either is missing or damaged, or if they do not belong together.
    """
    checkpoint = load_checkpoint(path)
    config = checkpoint.config
    size = min(batch_size or math.inf, config.runtime.eval_batch_size)
    config = config.updated({"runtime.eval_batch_size": size}, str(path))
    network = network_from(checkpoint, path).to(device).to(memory_format=torch.channels_last).eval()
    opened = matching_store(checkpoint, path, store)
    return TrainedModel(path, checkpoint, config, network, opened, device)


def network_from(checkpoint: Checkpoint, path: Path) -> MultimodalNetwork:
    """Return the network of a checkpoint; UnfitError if its tensors do not fit its own configuration.

    The network is first built on the meta device, so that a damaged configuration of a huge network needs no
    memory.
    """
    # The checkpoint's weights replace pretrained weights, which were only the start of training.
    model = dataclasses.replace(checkpoint.config.model, audio_weights="", visual_weights="")
    classes, state, modalities = len(checkpoint.classes), checkpoint.network_state(), checkpoint.modalities
    try:
        with torch.device("meta"):
            wanted = MultimodalNetwork(model, classes, modalities=modalities).state_dict()
        if {k: (v.shape, v.dtype) for k, v in wanted.items()} != {
            k: (v.shape, v.dtype) for k, v in state.items()
        }:
            raise ValueError("other names, shapes or types")
        network = MultimodalNetwork(model, classes, modalities=modalities)
        network.load_state_dict(state)
    except (RuntimeError, UsageError, *MALFORMED) as error:
        raise UnfitError(f"{path}: its tensors do not fit its own configuration.") from error
    return network
