"""Pictures for the variants of the embedded data set; the cause of their imbalance is known.

A variant replaces the picture of every sample, in all splits; the sound is not changed.

    uninformative   an empty wall: noise that does not depend on the sample
    memorised       a random mosaic for each sample: it identifies the sample, but not its class
    late            faint stripes in noise, turned by 18 degrees per digit. The network must learn a filter
                    before it sees them, and then it sees them in every picture
    degraded        the digit in a degraded picture: blurred, half hidden and with noise

The contrast and the noise of `late` were chosen on seed 0. With them, after the 18 epochs of the preset, the
visual head is still behind the audio head, and its validation accuracy is near its training accuracy.
"""

from __future__ import annotations

import numpy as np

from mgap_cli.config import DataConfig

TILES = 4  # along each side of the mosaic
MOSAIC_NOISE = 0.05  # of the sensor, standard deviation; full scale is 1
WALL = (0.3, 0.6)  # brightness
WALL_NOISE = 0.2
WALL_TINT = 0.08  # spread of the channels' gains
STRIPES = 0.014  # amplitude
STRIPES_NOISE = 0.12
STRIPES_PER_PIXEL = (0.14, 0.22)  # spatial frequency
STRIPES_TURN = 0.03  # radians, standard deviation
GREY = 0.45


def wall(rng: np.random.Generator, config: DataConfig) -> np.ndarray:
    """Return frames (T, H, W, 3) uint8 that have only noise."""
    frames = np.full(_shape(config), rng.uniform(*WALL)) * rng.normal(1, WALL_TINT, 3)
    return _photographed(frames, rng, WALL_NOISE)


def mosaic(rng: np.random.Generator, config: DataConfig) -> np.ndarray:
    """Return frames (T, H, W, 3) uint8 of coloured tiles, the same in all frames."""
    tile = np.arange(config.frame_size) * TILES // config.frame_size
    colours = rng.uniform(0.1, 0.9, (TILES, TILES, 3))
    return _photographed(np.broadcast_to(colours[tile][:, tile], _shape(config)), rng, MOSAIC_NOISE)


def stripes(rng: np.random.Generator, digit: int, config: DataConfig) -> np.ndarray:
    """Return frames (T, H, W, 3) uint8 of faint stripes; their direction gives the digit."""
    frames = np.empty(_shape(config))
    y, x = np.mgrid[: config.frame_size, : config.frame_size]
    for frame in frames:
        turn = np.pi * digit / 10 + rng.normal(0, STRIPES_TURN)
        cycles = rng.uniform(*STRIPES_PER_PIXEL) * (x * np.cos(turn) + y * np.sin(turn)) + rng.random()
        frame[:] = (GREY + STRIPES * np.sin(2 * np.pi * cycles))[..., None]
    return _photographed(frames, rng, STRIPES_NOISE)


def _shape(config: DataConfig) -> tuple[int, int, int, int]:
    return config.stored_frames, config.frame_size, config.frame_size, 3


def _photographed(frames: np.ndarray, rng: np.random.Generator, noise: float) -> np.ndarray:
    """Add the sensor's noise to frames in [0, 1] and return them as uint8."""
    return np.rint(np.clip(frames + rng.normal(0, noise, frames.shape), 0, 1) * 255).astype(np.uint8)
