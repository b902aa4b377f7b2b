"""torchvision's ConvNeXt-Tiny without its classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torchvision
from torch import Tensor, nn
from torchvision.models.convnext import CNBlock

from mgap_cli.modalities.modality import Modality
from mgap_cli.model.encoders.torchvision_weights import WrappedNetwork, standardised

if TYPE_CHECKING:
    from mgap_cli.config import ModelConfig

INPUTS = "spectrogram, frames"
FEATURES = "768"
PREPROCESSING = "frames: ImageNet's mean and sd; spectrograms: each to mean 0 and sd 1"
PAPER = "Liu et al., CVPR 2022"
SCALE = 1e-6  # initial scale of each block's residual branch, as in the paper


class ConvNextTiny(WrappedNetwork):
    """ConvNeXt-Tiny: (B, channels, H, W), at least 32 x 32, to (B, 768).

    It has no stochastic depth, so that the network draws no random numbers in a training step. A spectrogram
    is standardised by its own mean and standard deviation, because the network does not normalise its input.
    """

    name = "convnext-tiny"
    torchvision_name = "convnext_tiny"
    classifier = "classifier.2."
    first_weight = "features.0.0.weight"

    def __init__(self, modality: Modality, config: ModelConfig) -> None:
        super().__init__(modality, config)
        self.standardise = modality.kind == "spectrogram"
        self.network = torchvision.models.convnext_tiny(weights=None, stochastic_depth_prob=0.0)
        stem = self.network.features[0][0]
        if modality.channels != stem.in_channels:
            self.network.features[0][0] = nn.Conv2d(modality.channels, stem.out_channels, 4, stride=4)
        self.features = self.network.classifier[2].in_features
        self.network.classifier[2] = nn.Identity()

    def reset_parameters(self) -> None:
        """Initialise the parameters outside of convolutions, linear and normalisation layers."""
        for part in self.network.modules():
            if isinstance(part, CNBlock):
                nn.init.constant_(part.layer_scale, SCALE)

    def forward(self, inputs: Tensor) -> Tensor:
        encoded: Tensor = self.network(standardised(inputs) if self.standardise else inputs)
        return encoded
