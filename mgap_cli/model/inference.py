"""One pass over samples in eval mode and without augmentation, in float32 for any precision of training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from mgap_cli.model.network import MultimodalNetwork, probabilities

if TYPE_CHECKING:
    from mgap_cli.data.loading.loader import Batch


@dataclass(frozen=True)
class Predictions:
    """index: (N,) positions in the store; labels: (N,); probabilities: (N, C) float64 by head.

    features: (N, D) float32 by modality if they were requested, otherwise empty.
    """

    index: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    probabilities: dict[str, npt.NDArray[np.float64]]
    features: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    def mean_loss(self, head: str) -> float:
        """Return the mean cross-entropy of a head in nats, at most 27.6 per sample; NaN if one is NaN."""
        true = self.probabilities[head][np.arange(len(self.labels)), self.labels]
        return float(-np.log(np.maximum(true, 1e-12)).mean())


@torch.inference_mode()
def predict(network: MultimodalNetwork, batches: Iterable[Batch], features: bool = False) -> Predictions:
    """Run `network` over `batches`, in their order, and restore its training mode afterwards."""
    was_training = network.training
    network.eval()
    index, labels = [], []
    scores: dict[str, list[torch.Tensor]] = {head: [] for head in network.head_names}
    encoded: dict[str, list[torch.Tensor]] = {m: [] for m in network.encoders} if features else {}
    for batch in batches:
        outputs = network(batch.inputs)
        index.append(batch.index)
        labels.append(batch.labels)
        for head, logits in outputs.logits.items():
            scores[head].append(probabilities(logits))
        for modality, kept in encoded.items():
            kept.append(outputs.features[modality].float())
    network.train(was_training)
    return Predictions(
        index=torch.cat(index).cpu().numpy(),
        labels=torch.cat(labels).cpu().numpy(),
        probabilities={h: torch.cat(p).cpu().numpy().astype(np.float64) for h, p in scores.items()},
        features={m: torch.cat(f).cpu().numpy() for m, f in encoded.items()},
    )
