"""Fusion layers: one set of logits out of one feature vector per modality.

Each maps features {modality: (B, D)} to fused logits (B, C). An additive fusion can also be read apart:
`contributions` gives each modality's part of the logits, and the parts sum to the fused logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mgap_cli.errors import UsageError

Features = Mapping[str, Tensor]


class Concat(nn.Module):
    """z = W [f_1; ...; f_M] + b."""

    def __init__(self, modalities: Sequence[str], features: int, classes: int) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.linear = nn.Linear(len(modalities) * features, classes)

    def forward(self, features: Features) -> Tensor:
        fused: Tensor = self.linear(torch.cat([features[m] for m in self.modalities], dim=1))
        return fused

    def contributions(self, features: Features) -> dict[str, Tensor]:
        """Return W_m f_m + b / M by modality, (B, C) each."""
        weights = self.linear.weight.chunk(len(self.modalities), dim=1)
        share = self.linear.bias / len(self.modalities)
        return {m: features[m] @ w.T + share for m, w in zip(self.modalities, weights, strict=True)}


class Sum(nn.Module):
    """z = sum_m W_m f_m + b."""

    def __init__(self, modalities: Sequence[str], features: int, classes: int) -> None:
        super().__init__()
        self.linears = nn.ModuleDict({m: nn.Linear(features, classes, bias=False) for m in modalities})
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, features: Features) -> Tensor:
        first, *others = self.contributions(features).values()
        for part in others:
            first = first + part
        return first

    def contributions(self, features: Features) -> dict[str, Tensor]:
        """Return W_m f_m + b / M by modality, (B, C) each."""
        share = self.bias / len(self.linears)
        return {m: linear(features[m]) + share for m, linear in self.linears.items()}


class FiLM(nn.Module):
    """z = W (gamma(f_1) f_2 + beta(f_1)) + b: the first modality modulates the second (Perez et al. 2018)."""

    def __init__(self, modalities: Sequence[str], features: int, classes: int) -> None:
        super().__init__()
        self.modalities = _pair("film", modalities)
        self.modulation = nn.Linear(features, 2 * features)
        self.linear = nn.Linear(features, classes)

    def forward(self, features: Features) -> Tensor:
        first, second = (features[m] for m in self.modalities)
        gamma, beta = self.modulation(first).chunk(2, dim=1)
        fused: Tensor = self.linear(gamma * second + beta)
        return fused


class Gated(nn.Module):
    """The first modality gates the second (Kiela et al., 2018): z = W (sigmoid(U f_1) * V f_2) + b."""

    def __init__(self, modalities: Sequence[str], features: int, classes: int) -> None:
        super().__init__()
        self.modalities = _pair("gated", modalities)
        self.gate = nn.Linear(features, features)
        self.value = nn.Linear(features, features)
        self.linear = nn.Linear(features, classes)

    def forward(self, features: Features) -> Tensor:
        first, second = (features[m] for m in self.modalities)
        fused: Tensor = self.linear(torch.sigmoid(self.gate(first)) * self.value(second))
        return fused


FUSIONS: dict[str, type[Concat | Sum | FiLM | Gated]] = {
    "concat": Concat,
    "sum": Sum,
    "film": FiLM,
    "gated": Gated,
}
ADDITIVE = tuple(name for name, fusion in FUSIONS.items() if hasattr(fusion, "contributions"))


def _pair(fusion: str, modalities: Sequence[str]) -> tuple[str, str]:
    if len(modalities) != 2:
        raise UsageError(
            f"--fusion {fusion} joins two modalities, and this store has {len(modalities)}.",
            f"Use --fusion {' or '.join(ADDITIVE)}.",
        )
    return modalities[0], modalities[1]
