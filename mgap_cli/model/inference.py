"""One pass over samples in eval mode, float32 whatever the training's precision, without augmentation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from mgap_cli.model.network import HEADS, AudioVisualNetwork, probabilities

if TYPE_CHECKING:
    from mgap_cli.data.loading.loader import Batch


@dataclass(frozen=True)
class Predictions:
    """index: (N,) positions in the store; labels: (N,); probabilities: head to (N, C) float64."""

    index: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    probabilities: dict[str, npt.NDArray[np.float64]]


@torch.inference_mode()
def predict(network: AudioVisualNetwork, batches: Iterable[Batch]) -> Predictions:
    """Run `network` over `batches`, in their order; it is left in the mode it was found in."""
    was_training = network.training
    network.eval()
    index, labels = [], []
    collected: dict[str, list[torch.Tensor]] = {head: [] for head in HEADS}
    for batch in batches:
        outputs = network(batch.frames, batch.audio)
        index.append(batch.index)
        labels.append(batch.labels)
        for head in HEADS:
            collected[head].append(probabilities(outputs.head(head)))
    network.train(was_training)
    return Predictions(
        index=torch.cat(index).cpu().numpy(),
        labels=torch.cat(labels).cpu().numpy(),
        probabilities={h: torch.cat(p).cpu().numpy().astype(np.float64) for h, p in collected.items()},
    )
