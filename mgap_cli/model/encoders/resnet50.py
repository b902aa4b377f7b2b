"""ResNet-50 without its classifier: 3, 4, 6 and 3 Bottlenecks in its stages."""

from __future__ import annotations

from torchvision.models.resnet import Bottleneck

from mgap_cli.model.encoders.residual import ResNet

INPUTS = "spectrogram, frames"
FEATURES = "32 x model.width"
PREPROCESSING = "frames: ImageNet's mean and sd; spectrograms: as stored"
PAPER = "He et al., CVPR 2016"


class ResNet50(ResNet):
    """The residual encoder with 16 Bottlenecks."""

    name = "resnet50"
    torchvision_name = "resnet50"
    block = Bottleneck
    blocks = (3, 4, 6, 3)
