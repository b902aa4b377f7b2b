"""ResNet-10 without its classifier: one BasicBlock in each of the four stages."""

from __future__ import annotations

from mgap_cli.model.encoders.residual import ResNet

INPUTS = "spectrogram, frames"
FEATURES = "8 x model.width"
PREPROCESSING = "frames: ImageNet's mean and sd; spectrograms: as stored"
PAPER = "He et al., CVPR 2016"


class ResNet10(ResNet):
    """The residual encoder with one BasicBlock per stage."""

    name = "resnet10"
    blocks = (1, 1, 1, 1)
