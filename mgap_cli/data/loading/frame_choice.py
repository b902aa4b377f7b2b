"""Choose the stored frames of a clip that the network sees: drawn in each epoch, or evenly spaced."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mgap_cli.data.loading.placement import send

if TYPE_CHECKING:
    from torch import Tensor

    from mgap_cli.config import DataConfig


def drawn_frames(samples: int, config: DataConfig, generator: torch.Generator) -> Tensor:
    """Draw (samples, frames) int64 positions among the candidates, all different and in order of time.

    The draw is for all samples of a store, so the frames of a sample depend only on the generator and on its
    position.
    """
    order = torch.rand(samples, config.candidates, generator=generator).argsort(dim=1)
    return order[:, : config.frames].sort(dim=1).values


def spread_frames(samples: int, config: DataConfig) -> Tensor:
    """Return (samples, frames) int64 positions: the candidate at the centre of each of equal parts."""
    centres = (torch.arange(config.frames) + 0.5) * config.candidates / config.frames
    return centres.long().expand(samples, -1)


def take_frames(frames: Tensor, positions: Tensor) -> Tensor:
    """Return the frames (B, T, H, W, 3) at positions (B, T) of stored frames (B, K, H, W, 3), on the CPU."""
    rows = torch.arange(len(frames), device=frames.device)
    return frames[rows[:, None], send(positions, frames.device)]
