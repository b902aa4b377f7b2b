"""From a waveform to what the audio branch sees. The only module that imports torchaudio."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from mgap_cli.config import DataConfig

LOG_FLOOR = 1e-7  # added before the logarithm, as the literature's scripts do


def spectrogram_shape(config: DataConfig) -> tuple[int, int]:
    """Return (F, L), frequency bins and time columns, of every clip's spectrogram."""
    return config.n_fft // 2 + 1, _samples(config) // config.hop + 1


def log_spectrogram(wave: np.ndarray, config: DataConfig) -> np.ndarray:
    """Return log(|STFT| + 1e-7) as (F, L) float16 of a mono waveform (n,) float32 at `sample_rate`.

    The waveform is tiled or cut to `seconds` and clipped to [-1, 1]. ValueError if it is empty.
    """
    import torch

    fixed = np.clip(np.nan_to_num(fit_length(wave, _samples(config))), -1, 1)
    magnitude = _spectrogram(config.n_fft, config.hop)(torch.from_numpy(fixed))
    spectrum: np.ndarray = torch.log(magnitude + LOG_FLOOR).numpy().astype(np.float16)
    return spectrum


def fit_length(wave: np.ndarray, samples: int) -> np.ndarray:
    """Return `wave` repeated or cut to `samples` as float32; ValueError if it is empty."""
    if wave.size == 0:
        raise ValueError("the waveform is empty")
    repeats = -(-samples // wave.size)
    return np.tile(wave, repeats)[:samples].astype(np.float32)


def resample(wave: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Return the waveform (n,) float32 resampled from `rate` to `new_rate` Hz (windowed sinc)."""
    if rate == new_rate:
        return wave
    import torch
    from torchaudio.functional import resample as torchaudio_resample

    resampled: np.ndarray = torchaudio_resample(torch.from_numpy(wave), rate, new_rate).numpy()
    return resampled


@cache
def _spectrogram(n_fft: int, hop: int) -> Any:
    from torchaudio.transforms import Spectrogram

    return Spectrogram(n_fft=n_fft, hop_length=hop, power=1.0)


def _samples(config: DataConfig) -> int:
    return round(config.seconds * config.sample_rate)
