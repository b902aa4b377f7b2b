"""The record of one modality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ModalityKind = Literal["spectrogram", "frames", "features", "sequence"]


@dataclass(frozen=True)
class Modality:
    """The record of one modality.

    name: key in batches, outputs and scores. kind: the form of its arrays, which decides how they are read,
    augmented, encoded and corrupted: spectrogram (F, L), frames (T, H, W, 3), features (D,) or sequence (T,
    D) for each sample. channels: input channels of its encoder; D for features and sequences.
    """

    name: str
    kind: ModalityKind
    channels: int
