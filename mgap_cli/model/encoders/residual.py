"""Residual encoders, assembled from torchvision's blocks so that its weight files fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from mgap_cli.modalities.modality import Modality
from mgap_cli.model.encoders.torchvision_weights import TorchvisionEncoder

if TYPE_CHECKING:
    from mgap_cli.config import ModelConfig


class ResNet(TorchvisionEncoder):
    """A ResNet without its classifier: (B, channels, H, W) to (B, features).

    block: torchvision's block. blocks: their number in each of the four stages. The first stage has
    `model.width` channels, and each of the other three has twice as many as the stage before (times the
    block's expansion). With 64 channels it is torchvision's network, with the same parameter names.
    """

    classifier = "fc."
    first_weight = "conv1.weight"
    block: ClassVar[type[BasicBlock | Bottleneck]] = BasicBlock
    blocks: ClassVar[tuple[int, int, int, int]]

    def __init__(self, modality: Modality, config: ModelConfig) -> None:
        super().__init__(modality, config)
        width = config.width
        self.conv1 = nn.Conv2d(modality.channels, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        expansion, one, two, three, four = self.block.expansion, *self.blocks
        self.layer1 = self._stage(width, width, 1, one)
        self.layer2 = self._stage(width * expansion, 2 * width, 2, two)
        self.layer3 = self._stage(2 * width * expansion, 4 * width, 2, three)
        self.layer4 = self._stage(4 * width * expansion, 8 * width, 2, four)
        self.features = 8 * width * expansion
        self.avgpool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        pooled: Tensor = self.avgpool(x)
        return pooled.flatten(1)

    def _stage(self, in_width: int, width: int, stride: int, blocks: int) -> nn.Sequential:
        """Return a stage of blocks with `width` inner channels and `width` times the expansion outside."""
        out_width = width * self.block.expansion
        shortcut = None
        if stride != 1 or in_width != out_width:
            shortcut = nn.Sequential(
                nn.Conv2d(in_width, out_width, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(out_width),
            )
        first = self.block(in_width, width, stride, shortcut)
        return nn.Sequential(first, *(self.block(out_width, width) for _ in range(blocks - 1)))
