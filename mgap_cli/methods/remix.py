"""Data remixing: each sample trains its least certain modality, in batches of one modality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mgap_cli.config import Between, at_least_zero, bounded, search_space
from mgap_cli.methods.base import Method, Needs, cross_entropy, kept_rows

if TYPE_CHECKING:
    from mgap_cli.methods.base import BudgetEpoch, EpochContext, Step
    from mgap_cli.model.network import MultimodalNetwork

PAPER = "Ma et al., ICML 2025"
EVERY = -1  # mark of a sample that trains every modality


@dataclass(frozen=True)
class Settings:
    """start: share of the epoch budget before samples are assigned, as in the authors' program (10 of 60).

    joint_weight: weight of each unimodal loss before that. own_weight: weight of the unimodal loss after it.
    """

    start: float = bounded(0.166, 0, 1)
    joint_weight: float = at_least_zero(0.5)
    own_weight: float = at_least_zero(1.0)


class Remix(Method):
    """Training of one modality per batch, on the samples that are hard for it (Data Remixing; ICML 2025).

    At first L = CE(z, y) + joint_weight sum_m CE(z_m, y). From `start` on, each training sample is assigned
    at the epoch's start, in eval mode, to the modality whose prediction is closest to uniform,
    m_i = argmin_m KL(softmax(z_m,i) || uniform). The samples of one modality follow those of the other, the
    last modality first, and no batch mixes them. With z' the fused logits of features of 0 in place of the
    other modalities':

        L = CE(z', y) + own_weight CE(z_m, y).

    The method works with any number of modalities. Each epoch's record has each modality's number of samples
    as `assigned`.

    Buffer: assigned (N,), the modality's number for each sample of the store; -1 before the assignment.

    Only the abstract of the paper was available: the formulas are those of the authors' program
    (MatthewMaxy/Remix_ICML2025, train.py), which keeps the epoch that is best on the test set. A modality
    with a single assigned sample is not trained here, because batch normalisation needs two samples.
    """

    name = "remix"
    Settings = Settings
    space = search_space(joint_weight=Between(0.1, 5, log=True), own_weight=Between(0.1, 5, log=True))
    needs = Needs(features=True)
    assigned: Tensor

    def build(self, network: MultimodalNetwork, samples: int) -> None:
        super().build(network, samples)
        self.register_buffer("assigned", torch.full((samples,), EVERY))

    def on_epoch_start(self, context: EpochContext) -> list[str]:
        """Assign each training sample to the modality that is least certain of its class."""
        epoch = context.budget_epoch
        if epoch.index / epoch.budget < self.settings.start:
            return []
        predictions = context.predictions()
        certainty = np.stack([_certainty(predictions.probabilities[m]) for m in context.network.encoders])
        self.assigned[torch.from_numpy(predictions.index)] = torch.from_numpy(certainty.argmin(axis=0)).to(
            self.assigned
        )
        return [", ".join(f"{n} samples for {m}" for m, n in self._counts().items())]

    def epoch_samples(self, indices: np.ndarray) -> Sequence[np.ndarray]:
        """Return one group per modality, or one with all samples before they are assigned."""
        assigned = self.assigned.cpu().numpy()[indices]
        return [indices[assigned == m] for m in reversed(range(EVERY, len(self.heads) - 1))]

    def training_step(self, step: Step) -> None:
        outputs, labels = step.forward(), step.batch.labels
        options, assigned = self.settings, self.assigned[step.batch.index]
        whole = assigned == EVERY
        kept, unmixed = {}, []
        for number, (modality, f) in enumerate(outputs.features.items()):
            mine = assigned == number
            kept[modality] = kept_rows(f, whole | mine)
            loss = F.cross_entropy(outputs.unimodal[modality], labels, reduction="none")
            weight = options.joint_weight * whole.to(loss) + options.own_weight * mine.to(loss)
            unmixed.append((weight * loss).mean())
        step.backward(cross_entropy(step.fuse(kept), labels) + torch.stack(unmixed).sum())
        step.update()

    def epoch_record(self, epoch: BudgetEpoch) -> dict[str, Any]:
        return {"assigned": self._counts()}

    def _counts(self) -> dict[str, int]:
        return {m: int((self.assigned == number).sum()) for number, m in enumerate(self.heads[1:])}


def _certainty(probabilities: np.ndarray) -> np.ndarray:
    """Return the divergence of (N, C) probabilities from the uniform distribution, (N,), in nats."""
    classes = probabilities.shape[1]
    log_p = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    certainty: np.ndarray = (probabilities * log_p).sum(axis=1) + np.log(classes)
    return certainty
