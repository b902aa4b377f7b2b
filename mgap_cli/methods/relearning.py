"""Diagnosing and re-learning: encoders that overfit are moved back towards their initial weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mgap_cli.config import Between, at_least_zero, count, search_space
from mgap_cli.methods.joint import Joint

if TYPE_CHECKING:
    from mgap_cli.methods.base import BudgetEpoch, EpochContext, Step
    from mgap_cli.model.network import MultimodalNetwork

PAPER = "Wei et al., ECCV 2024"
STARTS = 10  # starts of k-means; the best result is kept


@dataclass(frozen=True)
class Settings:
    """strength: lambda, how much a gap of purity moves an encoder back.

    every: epochs between two diagnoses. times: number of diagnoses. The defaults are those of the authors'
    program for CREMA-D, which trains for 90 epochs.
    """

    strength: float = at_least_zero(3.0)
    every: int = count(20)
    times: int = count(3)


class Relearning(Joint):
    """Joint training that resets encoders softly (Diagnosing & Re-learning; Wei et al., ECCV 2024).

    After each `every` epochs, at most `times` times, k-means with C clusters divides the features of each
    modality, scaled to [-1, 1] per dimension, on the training and on the validation split. The purity P is
    the share of samples that belong to the largest class of their cluster. A modality whose P differs
    between the splits has overfitted, and its encoder's parameters theta move towards their initial values:

        w_m = tanh(strength |P_m,train - P_m,val|),     theta_m <- w_m theta_m,0 + (1 - w_m) theta_m.

    Statistics of batch norm and the optimizer's memory stay. Each epoch's record has `moved_back`, w_m by
    modality, or null. It needs a validation split.

    Buffers: initial_MODALITY_i, theta_m,0; shares (M,), w_m of the epoch that runs, 0 without a diagnosis.

    Only the abstract of the paper was available. The authors' program
    (GeWu-Lab/Diagnosing_Relearning_ECCV2024, ours.py) does this after 21, 41 and 61 epochs, starts k-means as
    often as its version of scikit-learn does, and chooses its best epoch on the test set.
    """

    name = "relearning"
    Settings = Settings
    space = search_space(strength=Between(0.5, 10, log=True))
    shares: Tensor

    def build(self, network: MultimodalNetwork, samples: int) -> None:
        super().build(network, samples)
        self.modalities, self.classes = tuple(network.encoders), network.classes
        for modality, encoder in network.encoders.items():
            for i, parameter in enumerate(encoder.parameters()):
                self.register_buffer(_initial(modality, i), parameter.detach().clone())
        self.register_buffer("shares", torch.zeros(len(self.modalities)))

    def on_epoch_start(self, context: EpochContext) -> list[str]:
        """Measure how far each encoder moves back at the first step of this epoch."""
        self.shares.zero_()
        number, rest = divmod(context.epoch, self.settings.every)
        if rest or not 1 <= number <= self.settings.times:
            return []
        train, val = context.predictions("train"), context.predictions("val")
        lines = []
        for i, m in enumerate(self.modalities):
            purities = [purity(of.features[m], of.labels, self.classes) for of in (train, val)]
            share = float(np.tanh(self.settings.strength * abs(purities[0] - purities[1])))
            self.shares[i] = share
            text = f"purity {purities[0]:.3f} on train, {purities[1]:.3f} on validation"
            lines.append(f"the {m} encoder moves {share:.1%} of the way back to its initial weights ({text})")
        return lines

    def training_step(self, step: Step) -> None:
        if step.progress == 0:  # here, and not at the epoch's start, all processes have the same shares
            self._move_back(step.network)
        super().training_step(step)

    def epoch_record(self, epoch: BudgetEpoch) -> dict[str, Any]:
        moved = dict(zip(self.modalities, self.shares.tolist(), strict=True))
        return {"moved_back": moved if any(moved.values()) else None}

    @torch.no_grad()
    def _move_back(self, network: MultimodalNetwork) -> None:
        for share, (modality, encoder) in zip(self.shares, network.encoders.items(), strict=True):
            for i, parameter in enumerate(encoder.parameters()):
                initial = getattr(self, _initial(modality, i))
                parameter.copy_(torch.where(share > 0, share * initial + (1 - share) * parameter, parameter))


def purity(features: np.ndarray, labels: np.ndarray, clusters: int) -> float:
    """Return the share of samples in the largest class of their cluster, in (0, 1].

    features: (N, D); labels: (N,). K-means makes the clusters, at most one per sample.
    """
    import warnings

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.preprocessing import minmax_scale

    scaled = minmax_scale(features.astype(np.float64), feature_range=(-1, 1))
    means = KMeans(min(clusters, len(labels)), n_init=STARTS, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different samples than clusters
        cluster = means.fit_predict(scaled)
    counts = np.zeros((clusters, int(labels.max()) + 1), np.int64)
    np.add.at(counts, (cluster, labels), 1)
    return float(counts.max(axis=1).sum() / len(labels))


def _initial(modality: str, number: int) -> str:
    """Return the name of the buffer with the initial values of an encoder's parameter."""
    return f"initial_{modality}_{number}"
