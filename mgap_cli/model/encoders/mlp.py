"""A perceptron with one hidden layer, for features, and for the mean over time of a sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from mgap_cli.modalities.modality import Modality
from mgap_cli.model.encoders.base import Encoder, mean_over_steps, present_steps

if TYPE_CHECKING:
    from mgap_cli.config import ModelConfig

INPUTS = "features, sequence"
FEATURES = "model.hidden"
PREPROCESSING = "batch normalisation"


class MLP(Encoder):
    """Standardise by batch normalisation, then two linear layers with ReLU: (B, D) to (B, model.hidden)."""

    name = "mlp"
    kinds = ("features", "sequence")

    def __init__(self, modality: Modality, config: ModelConfig) -> None:
        super().__init__(modality, config)
        self.features = config.hidden
        self.layers = nn.Sequential(
            nn.BatchNorm1d(modality.channels),
            nn.Linear(modality.channels, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.ReLU(),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        pooled = mean_over_steps(*present_steps(inputs)) if inputs.dim() == 3 else inputs
        encoded: Tensor = self.layers(pooled)
        return encoded
