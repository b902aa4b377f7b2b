"""Sample-level modality valuation: a modality that contributes little to a sample trains on it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from mgap_cli.config import Between, bounded, search_space
from mgap_cli.methods.attribution import shapley_values
from mgap_cli.methods.base import Needs, kept_rows
from mgap_cli.methods.joint import Joint
from mgap_cli.model.network import FUSED

if TYPE_CHECKING:
    from mgap_cli.methods.base import BudgetEpoch, EpochContext, Step
    from mgap_cli.model.inference import Predictions
    from mgap_cli.model.network import MultimodalNetwork

PAPER = "Wei et al., CVPR 2024"


@dataclass(frozen=True)
class Settings:
    """start: share of the epoch budget before samples repeat, as in the authors' program (5 of 60 epochs)."""

    start: float = bounded(0.083, 0, 1)


class Smv(Joint):
    """Joint training on samples that repeat for the modality that contributes little (SMV; CVPR 2024).

    At each epoch's start, in eval mode, a set S of modalities is worth v(S) = |S| for a sample if the fused
    logits of their features, with features of 0 in place of the others', predict its class, and 0 if not.
    phi_m is modality m's Shapley value; for two of them phi_a = (v(a) + v(a, v) - v(v)) / 2. In the epoch
    each sample occurs once as it is and, for each m with phi_m < 1, another 2 (1 - phi_m) times, rounded,
    with features of 0 in place of the other modalities'. With two modalities, a sample that the fused logits
    predict wrongly has four such copies. The loss is CE(z, y) over all of them. This is the sample-level
    variant; mgap does not have the modality-level one. The extension to more than two modalities is ours.
    Each epoch's record has the mean of phi_m as `contribution`.

    Buffers: repeats (N, M), the copies of each sample of the store; contribution (M,).

    Only the abstract of the paper was available: the numbers of copies are those of the authors' program
    (GeWu-Lab/Valuate-and-Enhance-Multimodal-Cooperation, code/sample_level.py): 1, 2 and 3 for phi_m = 0.5, 0
    and -0.5. That program evaluates the samples with random crops, and keeps the epoch that is best on the
    test set.
    """

    name = "smv"
    Settings = Settings
    space = search_space(start=Between(0, 0.5))
    needs = Needs(features=True)
    repeats: Tensor
    contribution: Tensor

    def build(self, network: MultimodalNetwork, samples: int) -> None:
        super().build(network, samples)
        modalities = len(network.encoders)
        self.register_buffer("repeats", torch.zeros(samples, modalities, dtype=torch.int64))
        self.register_buffer("contribution", torch.zeros(modalities))

    def on_epoch_start(self, context: EpochContext) -> list[str]:
        """Compute the contributions in the training samples, and how often each sample repeats."""
        epoch = context.budget_epoch
        if epoch.index / epoch.budget < self.settings.start:
            return []
        predictions = context.predictions()
        values = self._values(context.network, predictions)
        copies = (2 * (1 - values)).round().clamp_min(0).long()
        self.repeats.zero_()
        self.repeats[torch.from_numpy(predictions.index)] = copies
        self.contribution.copy_(values.mean(dim=0))
        more = ", ".join(
            f"{n} of {m}" for m, n in zip(predictions.features, copies.sum(dim=0).tolist(), strict=True)
        )
        return [f"{len(values)} samples repeat: {more}"]

    def epoch_samples(self, indices: np.ndarray) -> Sequence[np.ndarray]:
        """Return one group with every sample and its copies."""
        times = 1 + self.repeats.sum(dim=1).cpu().numpy()[indices]
        return [np.repeat(indices, times)]

    def training_step(self, step: Step) -> None:
        outputs = step.forward()
        ends = self.repeats[step.batch.index].cumsum(dim=1)  # last copy of each modality; copy 0: the sample
        copy = step.batch.copies[:, None]
        repeated = (copy <= ends) & (copy > ends - self.repeats[step.batch.index])
        kept = (repeated | (copy == 0)).T
        rows = zip(outputs.features.items(), kept, strict=True)
        fused = step.fuse({m: kept_rows(f, keep) for (m, f), keep in rows})
        outputs = replace(outputs, logits={**outputs.logits, FUSED: fused})
        step.backward(self.loss(outputs, step.batch))
        step.update()

    def epoch_record(self, epoch: BudgetEpoch) -> dict[str, Any]:
        return {"contribution": dict(zip(self.heads[1:], self.contribution.tolist(), strict=True))}

    def _values(self, network: MultimodalNetwork, predictions: Predictions) -> Tensor:
        """Return phi_m of each sample, (N, M), in float64 on the network's device."""
        like = next(network.parameters())
        labels = torch.from_numpy(predictions.labels).to(like.device)
        features = {m: torch.from_numpy(f).to(like) for m, f in predictions.features.items()}
        value = {frozenset[str](): torch.zeros(len(labels), dtype=torch.float64, device=like.device)}
        for count in range(1, len(features) + 1):
            for kept in combinations(features, count):
                rows = {m: f if m in kept else torch.zeros_like(f) for m, f in features.items()}
                value[frozenset(kept)] = count * (self._named(network, rows) == labels).double()
        return torch.stack(list(shapley_values(list(features), value).values()), dim=1)

    def _named(self, network: MultimodalNetwork, features: Mapping[str, Tensor]) -> Tensor:
        """Return the class (N,) that the fused logits predict, computed in eval mode and in parts."""
        parts = [torch.split(f, self.config.runtime.eval_batch_size) for f in features.values()]
        with torch.no_grad(), _evaluating(network):
            named = [
                network.fuse(dict(zip(features, part, strict=True))).argmax(dim=1)
                for part in zip(*parts, strict=True)
            ]
        return torch.cat(named)


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network in eval mode, and each of its modules back in the mode that it had."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
