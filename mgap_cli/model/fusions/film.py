"""The first modality scales and shifts the second: z = W (gamma(f_1) f_2 + beta(f_1)) + b."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from mgap_cli.model.fusions.base import Features, Fusion

MODALITIES = "two"
PAPER = "Perez et al., AAAI 2018"


class FiLM(Fusion):
    """z = W (gamma(f_1) f_2 + beta(f_1)) + b: the first modality modulates the second (Perez et al. 2018)."""

    name = "film"
    pair_only = True

    def __init__(self, sizes: Mapping[str, int], classes: int) -> None:
        super().__init__(sizes, classes)
        first, second = sizes.values()
        self.modulation = nn.Linear(first, 2 * second)
        self.linear = nn.Linear(second, classes)

    def forward(self, features: Features) -> Tensor:
        first, second = (features[m] for m in self.modalities)
        gamma, beta = self.modulation(first).chunk(2, dim=1)
        fused: Tensor = self.linear(gamma * second + beta)
        return fused
