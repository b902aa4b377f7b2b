"""The protocol of an encoder, which turns the inputs of a modality into one feature vector per sample.

To add an encoder, write one file here with a subclass of `Encoder` whose `name` is the file's name (with
`-` for `_`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from mgap_cli.modalities.modality import Modality

if TYPE_CHECKING:
    from mgap_cli.config import ModelConfig


class Encoder(nn.Module):
    """Base class of every encoder.

    name: as on the command line. kinds: the kinds of modalities that it accepts. features: the size D of its
    output, which `__init__` sets. whole_clips: it reads the frames of a clip together, and may use their
    order; otherwise it sees one frame at a time, and the network averages the features over the frames.

    forward takes spectrograms (B, 1, F, L), single frames (B, 3, S, S) or with `whole_clips` (B, T, 3, S, S),
    features (B, D) or sequences (B, T, D), whose missing steps are NaN, and returns (B, features).
    """

    name: ClassVar[str] = ""
    kinds: ClassVar[tuple[str, ...]] = ()
    whole_clips: ClassVar[bool] = False
    features: int

    def __init__(self, modality: Modality, config: ModelConfig) -> None:
        super().__init__()


def present_steps(sequence: Tensor) -> tuple[Tensor, Tensor]:
    """Return a sequence (B, T, D) with 0 for NaN, and whether each step is present, (B, T) bool."""
    present = ~sequence.isnan().any(dim=2)
    return torch.where(present[:, :, None], sequence, 0), present


def mean_over_steps(sequence: Tensor, present: Tensor) -> Tensor:
    """Return the mean (B, D) of a sequence (B, T, D) over the present steps; 0 without any."""
    weights = present[:, :, None].to(sequence.dtype)
    return (sequence * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
