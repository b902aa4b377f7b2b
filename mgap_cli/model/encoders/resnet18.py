"""ResNet-18 without its classifier: two BasicBlocks in each of the four stages."""

from __future__ import annotations

from mgap_cli.model.encoders.residual import ResNet

INPUTS = "spectrogram, frames"
FEATURES = "8 x model.width"
PREPROCESSING = "frames: ImageNet's mean and sd; spectrograms: as stored"
PAPER = "He et al., CVPR 2016"


class ResNet18(ResNet):
    """The residual encoder with two BasicBlocks per stage."""

    name = "resnet18"
    torchvision_name = "resnet18"
    blocks = (2, 2, 2, 2)
