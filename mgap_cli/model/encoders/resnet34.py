"""ResNet-34 without its classifier: 3, 4, 6 and 3 BasicBlocks in its stages."""

from __future__ import annotations

from mgap_cli.model.encoders.residual import ResNet

INPUTS = "spectrogram, frames"
FEATURES = "8 x model.width"
PREPROCESSING = "frames: ImageNet's mean and sd; spectrograms: as stored"
PAPER = "He et al., CVPR 2016"


class ResNet34(ResNet):
    """The residual encoder with 16 BasicBlocks."""

    name = "resnet34"
    torchvision_name = "resnet34"
    blocks = (3, 4, 6, 3)
