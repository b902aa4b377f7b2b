"""Prototypical modal rebalance: the slower modality is also trained to come close to its class prototypes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from mgap_cli.config import at_least_zero, bounded
from mgap_cli.methods.base import Needs
from mgap_cli.methods.joint import Joint
from mgap_cli.model.encoders.base import Encoder
from mgap_cli.model.network import probabilities

if TYPE_CHECKING:
    from mgap_cli.config import Config
    from mgap_cli.data.loading.loader import Batch
    from mgap_cli.methods.base import EpochContext, Step
    from mgap_cli.model.network import MultimodalNetwork, Outputs

PAPER = "Fan et al., CVPR 2023"


@dataclass(frozen=True)
class Settings:
    """alpha: weight of the prototype loss. momentum: share of the old prototypes in the new ones.

    coefficient: `clipped` weights the prototype loss by how far the modality is behind, at most 1, as in the
    paper; `step` weights it by 1, as in the authors' program. entropy: weight of the leading modality's
    prototype entropy, which slows it down; 0 leaves it out. entropy_end: share of the epoch budget after
    which that term ends (the default is ours).
    """

    alpha: float = at_least_zero(1.0)
    momentum: float = bounded(0.2, 0, 1)
    coefficient: Literal["clipped", "step"] = "clipped"
    entropy: float = at_least_zero(0.0)
    entropy_end: float = bounded(0.5, 0, 1)


class Pmr(Joint):
    """Joint training with a prototype loss of the slower modality (PMR; Fan et al., CVPR 2023).

    At each epoch's start, c_k,m = 0.8 (mean of f_m over the training samples of class k) + 0.2 (old c_k,m),
    in eval mode; at the first start, that mean alone. With sim_m,i,k = -|f_m,i - c_k,m|, P_m = softmax(sim_m)
    and rho = sum_i P_a,i[y_i] / sum_i P_v,i[y_i] over the batch, m the slower modality (a if rho < 1) and n
    the other one:

        L = CE(z, y) + alpha w CE(sim_m, y) - entropy w mean_i H(P_n,i),

    w = min(1, |ratio - 1|) with the ratio of the leading to the slower modality, or 1 (`coefficient`). The
    entropy term ends at `entropy_end` of the budget. The method needs two modalities.

    Buffers: prototypes_MODALITY (C, D), and present (C,), whether each class has training samples; the other
    classes are left out of every softmax.

    The authors' program (fanyunfeng-bit/Modal-Imbalance-PMR, main_Prototype_grad.py) has w = 1 and no entropy
    term, and computes prototypes from a tenth of the training batches (for AVE from the validation split).
    """

    name = "pmr"
    Settings = Settings
    needs = Needs(features=True, pair=True)
    present: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._regularises = False

    def build(self, network: MultimodalNetwork, samples: int) -> None:
        super().build(network, samples)
        for modality, encoder in network.encoders.items():
            size = (network.classes, int(cast(Encoder, encoder).features))
            self.register_buffer(_buffer(modality), torch.zeros(size))
        self.register_buffer("present", torch.zeros(network.classes, dtype=torch.bool))

    def on_epoch_start(self, context: EpochContext) -> list[str]:
        """Move the prototypes to the present features of the training split."""
        predictions = context.predictions()
        labels = torch.from_numpy(predictions.labels)
        first = not bool(self.present.any())
        for modality, features in predictions.features.items():
            old = getattr(self, _buffer(modality))
            new = class_means(torch.from_numpy(features), labels, len(old)).to(old)
            share = 0.0 if first else self.settings.momentum
            old.copy_((1 - share) * new + share * old)
        self.present.copy_(torch.bincount(labels, minlength=len(self.present)) > 0)
        return []

    def training_step(self, step: Step) -> None:
        self._regularises = step.epoch.index < self.settings.entropy_end * step.epoch.budget
        super().training_step(step)

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        labels = self.present.cumsum(0)[batch.labels] - 1  # softmax over the classes that are present
        similar = [
            -torch.cdist(f, getattr(self, _buffer(m))[self.present], compute_mode=_EXACT)
            for m, f in outputs.features.items()
        ]
        with torch.no_grad():
            first, second = (probabilities(sim).gather(1, labels[:, None]).sum() for sim in similar)
            ratios = second / first - 1, first / second - 1  # positive for the slower modality
            if self.settings.coefficient == "step":
                weights = [(ratio > 0).to(ratio) for ratio in ratios]
            else:
                weights = [ratio.clamp(0, 1) for ratio in ratios]
        total = super().loss(outputs, batch)
        for index, weight in enumerate(weights):
            total = total + self.settings.alpha * weight * F.cross_entropy(similar[index], labels)
            if self.settings.entropy and self._regularises:
                log_p = F.log_softmax(similar[1 - index], dim=1)
                total = total + self.settings.entropy * weight * (log_p.exp() * log_p).sum(1).mean()
        return total


_EXACT = "donot_use_mm_for_euclid_dist"  # the other formula loses half of the digits of small distances


def class_means(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return the mean feature vector of each class, (C, D); zeros if it has no samples."""
    sums = torch.zeros(classes, features.shape[1], dtype=torch.float64)
    sums.index_add_(0, labels, features.double())
    counts = torch.bincount(labels, minlength=classes)
    return sums / counts.clamp_min(1)[:, None]


def _buffer(modality: str) -> str:
    return f"prototypes_{modality}"
