"""Residual encoders, assembled from torchvision's blocks so that its weight files fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from mgap_cli.errors import UnfitError
from mgap_cli.modalities.modality import Modality
from mgap_cli.model.encoders.base import Encoder

if TYPE_CHECKING:
    from mgap_cli.config import ModelConfig


class ResNet(Encoder):
    """A ResNet of BasicBlocks without its classifier: (B, channels, H, W) to (B, features).

    blocks: BasicBlocks per stage. The first stage has `model.width` channels, and each of the other three
    twice those of the one before; 64 and two blocks per stage is torchvision's resnet18, parameter names
    included.
    """

    kinds = ("spectrogram", "frames")
    blocks: ClassVar[int]

    def __init__(self, modality: Modality, config: ModelConfig) -> None:
        super().__init__(modality, config)
        width = config.width
        self.features = 8 * width
        self.conv1 = nn.Conv2d(modality.channels, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = _stage(width, width, 1, self.blocks)
        self.layer2 = _stage(width, 2 * width, 2, self.blocks)
        self.layer3 = _stage(2 * width, 4 * width, 2, self.blocks)
        self.layer4 = _stage(4 * width, 8 * width, 2, self.blocks)
        self.avgpool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        pooled: Tensor = self.avgpool(x)
        return pooled.flatten(1)

    def load_torchvision(self, path: str) -> None:
        """Load a local torchvision state dict; its classifier is left out, a 3-channel conv1 is summed to 1.

        Raises UnfitError if the file is missing or holds something else.
        """
        try:
            state = torch.load(Path(path), map_location="cpu", weights_only=True)
            weights = {k: v for k, v in state.items() if not k.startswith("fc.")}
            if weights["conv1.weight"].shape[1] != self.conv1.in_channels == 1:
                weights["conv1.weight"] = weights["conv1.weight"].sum(dim=1, keepdim=True)
            self.load_state_dict(weights)
        except Exception as error:  # torch.load and load_state_dict raise a dozen kinds
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UnfitError(
                f"{path}: not a torchvision state dict that fits this encoder ({reason}).",
                "Save it with torch.save(torchvision.models.resnet18(...).state_dict(), FILE).",
            ) from error


def _stage(in_width: int, out_width: int, stride: int, blocks: int) -> nn.Sequential:
    shortcut = None
    if stride != 1 or in_width != out_width:
        shortcut = nn.Sequential(
            nn.Conv2d(in_width, out_width, kernel_size=1, stride=stride, bias=False),
            nn.BatchNorm2d(out_width),
        )
    first = BasicBlock(in_width, out_width, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(out_width, out_width) for _ in range(blocks - 1)))
