"""ResNet-10 of each frame's difference from the mean frame, then convolutions over time, for clips."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from mgap_cli.modalities.modality import Modality
from mgap_cli.model.encoders.base import Encoder
from mgap_cli.model.encoders.resnet10 import ResNet10
from mgap_cli.model.encoders.temporal import Temporal

if TYPE_CHECKING:
    from mgap_cli.config import ModelConfig

INPUTS = "frames, in their order"
FEATURES = "model.hidden"
PREPROCESSING = "the mean frame of the clip is subtracted"


class Motion(Encoder):
    name = "motion"
    kinds = ("frames",)
    whole_clips = True

    def __init__(self, modality: Modality, config: ModelConfig) -> None:
        super().__init__(modality, config)
        self.frame = ResNet10(modality, config)
        self.order = Temporal(Modality(modality.name, "sequence", self.frame.features), config)
        self.features = self.order.features

    def forward(self, clips: Tensor) -> Tensor:
        changes = clips - clips.mean(dim=1, keepdim=True)
        encoded = self.frame(changes.flatten(0, 1)).unflatten(0, clips.shape[:2])
        features: Tensor = self.order(encoded)
        return features
