"""Four ways to make one set of logits out of two feature vectors, as the OGM-GE line of work has them.

Each maps f_a, f_v of shape (B, D) to fused logits (B, C). The additive ones can also be read apart:
`parts` gives each modality's share of the logits, and the two shares sum to the fused logits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable


class Concat(nn.Module):
    """z = W [f_a; f_v] + b."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * features, classes)

    def forward(self, audio: Tensor, visual: Tensor) -> Tensor:
        fused: Tensor = self.linear(torch.cat([audio, visual], dim=1))
        return fused

    def parts(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        """Return W_m f_m + b/2 for audio and visual, (B, C) each."""
        weight_a, weight_v = self.linear.weight.chunk(2, dim=1)
        half = self.linear.bias / 2
        return audio @ weight_a.T + half, visual @ weight_v.T + half


class Sum(nn.Module):
    """z = W_a f_a + W_v f_v + b."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.audio = nn.Linear(features, classes, bias=False)
        self.visual = nn.Linear(features, classes, bias=False)
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, audio: Tensor, visual: Tensor) -> Tensor:
        part_a, part_v = self.parts(audio, visual)
        return part_a + part_v

    def parts(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        """Return W_m f_m + b/2 for audio and visual, (B, C) each."""
        return self.audio(audio) + self.bias / 2, self.visual(visual) + self.bias / 2


class FiLM(nn.Module):
    """Audio modulates the visual features (Perez et al., 2018): z = W (gamma(f_a) f_v + beta(f_a)) + b."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(features, 2 * features)
        self.linear = nn.Linear(features, classes)

    def forward(self, audio: Tensor, visual: Tensor) -> Tensor:
        gamma, beta = self.modulation(audio).chunk(2, dim=1)
        fused: Tensor = self.linear(gamma * visual + beta)
        return fused


class Gated(nn.Module):
    """Audio gates the visual features (Kiela et al., 2018): z = W (sigmoid(U f_a) * V f_v) + b."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.gate = nn.Linear(features, features)
        self.value = nn.Linear(features, features)
        self.linear = nn.Linear(features, classes)

    def forward(self, audio: Tensor, visual: Tensor) -> Tensor:
        fused: Tensor = self.linear(torch.sigmoid(self.gate(audio)) * self.value(visual))
        return fused


FUSIONS: dict[str, Callable[[int, int], nn.Module]] = {
    "concat": Concat,
    "sum": Sum,
    "film": FiLM,
    "gated": Gated,
}
ADDITIVE = ("concat", "sum")
