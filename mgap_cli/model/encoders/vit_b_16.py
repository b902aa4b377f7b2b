"""torchvision's ViT-B/16 without its classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from mgap_cli.modalities.modality import Modality
from mgap_cli.model.encoders.torchvision_weights import WrappedNetwork, standardised

if TYPE_CHECKING:
    from mgap_cli.config import ModelConfig

INPUTS = "spectrogram, frames"
FEATURES = "768"
PREPROCESSING = "resized to 224 x 224; frames: ImageNet's mean and sd; spectrograms: each to mean 0 and sd 1"
PAPER = "Dosovitskiy et al., ICLR 2021"
SIZE = 224  # height and width in pixels, fixed because the positions of the 14 x 14 patches are learnt
POSITION_SD = 0.02  # standard deviation of the initial position embeddings, as in the paper's program


class ViTB16(WrappedNetwork):
    """ViT-B/16: (B, channels, H, W), resized to 224 x 224, to its class token (B, 768).

    A spectrogram is standardised by its own mean and standard deviation, because the network does not
    normalise its input.
    """

    name = "vit-b-16"
    torchvision_name = "vit_b_16"
    classifier = "heads."
    first_weight = "conv_proj.weight"

    def __init__(self, modality: Modality, config: ModelConfig) -> None:
        super().__init__(modality, config)
        self.standardise = modality.kind == "spectrogram"
        self.network = torchvision.models.vit_b_16(weights=None)
        patches = self.network.conv_proj
        if modality.channels != patches.in_channels:
            self.network.conv_proj = nn.Conv2d(modality.channels, patches.out_channels, 16, stride=16)
        self.features = self.network.hidden_dim
        self.network.heads = nn.Identity()

    def reset_parameters(self) -> None:
        """Initialise the parameters outside of convolutions, linear and normalisation layers."""
        nn.init.zeros_(self.network.class_token)
        nn.init.normal_(self.network.encoder.pos_embedding, std=POSITION_SD)
        for part in self.network.modules():
            if isinstance(part, nn.MultiheadAttention):
                nn.init.xavier_uniform_(part.in_proj_weight)
                nn.init.zeros_(part.in_proj_bias)

    def forward(self, inputs: Tensor) -> Tensor:
        pixels = standardised(inputs) if self.standardise else inputs
        if pixels.shape[-2:] != (SIZE, SIZE):
            pixels = F.interpolate(pixels, size=(SIZE, SIZE), mode="bilinear", antialias=True)
        encoded: Tensor = self.network(pixels)
        return encoded
