"""What moves in a clip: ResNet-10 of each frame minus the mean frame, then convolutions over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from mgap_cli.errors import UsageError
from mgap_cli.modalities.modality import Modality
from mgap_cli.model.encoders.base import Encoder
from mgap_cli.model.encoders.resnet10 import ResNet10
from mgap_cli.model.encoders.temporal import Temporal

if TYPE_CHECKING:
    from mgap_cli.config import ModelConfig

INPUTS = "two or more frames"
FEATURES = "model.hidden"
PREPROCESSING = "the clip's mean frame is subtracted"


class Motion(Encoder):
    """Encode the frames of a clip in their order: (B, T, 3, S, S) to (B, model.hidden) (ours).

    Light, background and the face at rest are in the mean frame, so they count for nothing. Each difference
    goes through ResNet-10 of width `model.width`, and the T results through the encoder `temporal`.
    """

    name = "motion"
    kinds = ("frames",)
    whole_clips = True

    def __init__(self, modality: Modality, config: ModelConfig) -> None:
        super().__init__(modality, config)
        self.frame = ResNet10(modality, config)
        self.time = Temporal(Modality(modality.name, "sequence", self.frame.features), config)
        self.features = self.time.features

    def forward(self, clips: Tensor) -> Tensor:
        """Return the features; UsageError if the clips have one frame, in which nothing moves."""
        if clips.shape[1] == 1:
            raise UsageError(
                "The encoder motion reads what changes between frames, and these clips have one frame each.",
                "Prepare them with --set data.frames=8 or more, or use another encoder.",
            )
        changes = clips - clips.mean(dim=1, keepdim=True)
        encoded = self.frame(changes.flatten(0, 1)).unflatten(0, clips.shape[:2])
        features: Tensor = self.time(encoded)
        return features
