"""Augmentation of a whole batch in one operation, on the batch's device: crop, flip, spectrogram masks."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from mgap_cli.data.loading.placement import send

if TYPE_CHECKING:
    from torch import Tensor

    from mgap_cli.config import AugmentConfig

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
RATIO = (3 / 4, 4 / 3)  # torchvision's range of aspect ratios
TRIES = 10  # torchvision's number of tries before it takes the central crop


def to_float(frames: Tensor) -> Tensor:
    """Turn (B, T, H, W, 3) uint8 into (B, T, 3, H, W) float32, ImageNet-normalised."""
    return _normalised(_planes(frames))


def _planes(frames: Tensor) -> Tensor:
    """Turn (B, T, H, W, 3) uint8 into (B, T, 3, H, W) float32 with the same values and memory layout."""
    return frames.permute(0, 1, 4, 2, 3).float()


def _normalised(pixels: Tensor) -> Tensor:
    """Normalise (B, T, 3, H, W) with values of 0 to 255 by ImageNet's statistics, in place."""
    mean, factor = _statistics(pixels.device)
    return pixels.sub_(mean).mul_(factor)


@cache
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the mean and the inverse standard deviation of pixels, (3, 1, 1) each, cached on the device."""
    with torch.inference_mode(False):
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        return (255 * mean).to(device), (1 / (255 * std)).to(device)


def resize(frames: Tensor, size: int) -> Tensor:
    """Resize (B, T, 3, H, W) float to (B, T, 3, size, size), as at test time."""
    if frames.shape[-2:] == (size, size):
        return frames
    batch, times = frames.shape[:2]
    resized = F.interpolate(frames.flatten(0, 1), size=(size, size), mode="bilinear", antialias=True)
    return resized.view(batch, times, 3, size, size)


def random_boxes(count: int, height: int, width: int, scale_min: float, generator: torch.Generator) -> Tensor:
    """Draw (count, 4) crop boxes (top, left, height, width) with the distribution of RandomResizedCrop.

    The area is uniform in [scale_min, 1], and the logarithm of the aspect ratio is uniform. Each sample has
    up to ten tries until the box fits; otherwise it gets the whole frame, cut to the nearest allowed ratio.
    """
    area = torch.empty(count, TRIES).uniform_(scale_min, 1.0, generator=generator) * height * width
    log_ratio = torch.empty(count, TRIES).uniform_(
        math.log(RATIO[0]), math.log(RATIO[1]), generator=generator
    )
    ratio = log_ratio.exp()
    w = (area * ratio).sqrt().round()
    h = (area / ratio).sqrt().round()
    fits = (w >= 1) & (w <= width) & (h >= 1) & (h <= height)
    first = fits.int().argmax(dim=1, keepdim=True)
    h, w = h.gather(1, first)[:, 0], w.gather(1, first)[:, 0]
    corner = torch.rand(count, 2, generator=generator)
    top = (corner[:, 0] * (height - h + 1)).floor()
    left = (corner[:, 1] * (width - w + 1)).floor()
    whole_ratio = min(max(width / height, RATIO[0]), RATIO[1])
    whole_h = min(height, round(width / whole_ratio))
    whole_w = min(width, round(height * whole_ratio))
    whole = torch.tensor([(height - whole_h) // 2, (width - whole_w) // 2, whole_h, whole_w]).float()
    return torch.where(fits.any(dim=1)[:, None], torch.stack([top, left, h, w], dim=1), whole)


def augment(
    frames: Tensor,
    config: AugmentConfig,
    generator: torch.Generator,
    total: int | None = None,
    rows: slice = slice(None),
) -> Tensor:
    """Crop, resize, flip and normalise (B, T, H, W, 3) uint8 to (B, T, 3, S, S).

    All frames of a clip get the same crop and flip. Resampling is bilinear, without the antialiasing that
    torchvision's RandomResizedCrop uses for crops larger than S. The weights of the interpolation sum to 1,
    so the small picture can be normalised instead of the large one. `generator` is a CPU generator, so that
    the draw does not depend on the device. If `frames` are only the `rows` of a batch of `total`, the draw is
    for the whole batch, so that a sample gets the same crop in any share.
    """
    batch, times, height, width, _ = frames.shape
    drawn = batch if total is None else total
    boxes = random_boxes(drawn, height, width, config.scale_min, generator)[rows]
    flipped = (torch.rand(drawn, generator=generator) < (0.5 if config.flip else 0.0))[rows]
    boxes, flipped = send(boxes, frames.device), send(flipped, frames.device)
    top, left, h, w = boxes.unbind(dim=1)
    steps = (torch.arange(config.image_size, device=frames.device) + 0.5) / config.image_size
    x = torch.where(flipped[:, None], 1 - steps, steps)
    # Pixel edges of the source, scaled to grid_sample's [-1, 1].
    xs = 2 * (left[:, None] + x * w[:, None]) / width - 1
    ys = 2 * (top[:, None] + steps * h[:, None]) / height - 1
    grid = torch.stack(
        [
            xs[:, None, :].expand(-1, config.image_size, -1),
            ys[:, :, None].expand(-1, -1, config.image_size),
        ],
        dim=-1,
    )
    grid = grid.repeat_interleave(times, dim=0)
    pixels = _planes(frames).flatten(0, 1)
    cropped = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    return _normalised(cropped.view(batch, times, 3, config.image_size, config.image_size))


def mask(
    audio: Tensor,
    share: float,
    generator: torch.Generator,
    total: int | None = None,
    rows: slice = slice(None),
) -> Tensor:
    """Hide a band of frequencies and a stretch of time of each (B, 1, F, L) spectrogram behind its mean.

    These are the masks of SpecAugment (Park et al., Interspeech 2019), one in frequency and one in time.
    Widths are uniform in [0, share] of the axis, and positions are uniform. `generator` is a CPU generator;
    `total` and `rows` are as for `augment`.
    """
    hidden = torch.zeros(audio.shape, dtype=torch.bool, device=audio.device)
    for axis in (2, 3):
        size = audio.shape[axis]
        drawn = torch.rand(2, len(audio) if total is None else total, generator=generator)
        width, position = drawn[:, rows]
        width = width * share * size
        first = position * (size - width)
        at = torch.arange(size) + 0.5
        within = (at >= first[:, None]) & (at < (first + width)[:, None])
        shape = [len(audio), 1, 1, 1]
        shape[axis] = size
        hidden |= send(within.view(shape), audio.device)
    return torch.where(hidden, audio.mean(dim=(2, 3), keepdim=True), audio)
