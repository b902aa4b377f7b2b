"""Two convolutions over time and a mean over the present steps, for sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from mgap_cli.modalities.modality import Modality
from mgap_cli.model.encoders.base import Encoder, mean_over_steps, present_steps

if TYPE_CHECKING:
    from mgap_cli.config import ModelConfig

INPUTS = "sequence"
FEATURES = "model.hidden"
PREPROCESSING = "batch normalisation of the steps"
STEPS = 5  # size of a convolution's kernel


class Temporal(Encoder):
    """Standardise the steps, convolve twice over time and average: (B, T, D) to (B, model.hidden) (ours).

    Missing steps are left out of the batch's statistics, and are zeros for a convolution.
    """

    name = "temporal"
    kinds = ("sequence",)

    def __init__(self, modality: Modality, config: ModelConfig) -> None:
        super().__init__(modality, config)
        self.features = config.hidden
        self.normalise = nn.BatchNorm1d(modality.channels)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(channels, config.hidden, STEPS, padding=STEPS // 2)
            for channels in (modality.channels, config.hidden)
        )
        self.relu = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        steps, present = present_steps(inputs)
        encoded = steps.new_zeros(steps.shape)
        if present.any():
            encoded[present] = self.normalise(steps[present]).to(encoded.dtype)
        mask = present[:, None, :]
        encoded = encoded.transpose(1, 2)
        for convolution in self.convolutions:
            encoded = self.relu(convolution(encoded)) * mask
        return mean_over_steps(encoded.transpose(1, 2), present)
