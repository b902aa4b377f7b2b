"""The record of one modality, and the built-in pair of audio and video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ModalityKind = Literal["spectrogram", "frames"]


@dataclass(frozen=True)
class Modality:
    """Facts about one modality.

    name: key in batches, outputs and scores. kind: what its arrays are, which decides how they are read,
    augmented, encoded and corrupted. channels: input channels of its encoder.
    """

    name: str
    kind: ModalityKind
    channels: int


AUDIO = Modality("audio", "spectrogram", 1)
VISUAL = Modality("visual", "frames", 3)
AUDIO_VISUAL = (AUDIO, VISUAL)
