"""From a waveform to the input of the audio branch. This is the only module that imports soxr.

numpy and scipy compute the spectrograms. torch would take seconds to import in every process, and is not
faster for one short waveform at a time.
"""

from __future__ import annotations

import numpy as np

from mgap_cli.config import DataConfig

RESAMPLING = "HQ"  # soxr's recipe, which is librosa's default ("soxr_hq")
LOG_FLOOR = 1e-7  # added before the logarithm, as the literature's scripts do


def log_spectrogram_shape(config: DataConfig) -> tuple[int, int]:
    """Return the shape (F, L) of `log_spectrogram`: frequency bins and time columns."""
    return config.n_fft // 2 + 1, _samples(config) // config.hop + 1


def log_spectrogram(wave: np.ndarray, config: DataConfig) -> np.ndarray:
    """Return log(|STFT| + 1e-7) as (F, L) float16 of a mono waveform (n,) float32 at `sample_rate`.

    The waveform is tiled or cut to `seconds` and clipped to [-1, 1]. ValueError if it is empty.
    """
    from scipy.fft import rfft  # numpy's FFT would compute in float64

    half = config.n_fft // 2
    fixed = fit_length(wave, _samples(config))
    padded = np.pad(fixed, (half, config.n_fft - half), mode="reflect")  # columns are centred on their time
    if not np.isfinite(padded).all():
        np.nan_to_num(padded, copy=False)
    np.clip(padded, -1, 1, out=padded)
    columns = np.lib.stride_tricks.sliding_window_view(padded, config.n_fft)[:: config.hop]
    magnitude = np.abs(rfft(columns * _hann(config.n_fft), axis=1))
    magnitude += np.float32(LOG_FLOOR)
    spectrum: np.ndarray = np.log(magnitude, out=magnitude).T.astype(np.float16, order="C")
    return spectrum


def fit_length(wave: np.ndarray, samples: int) -> np.ndarray:
    """Return `wave` repeated or cut to `samples` as float32; ValueError if it is empty."""
    if wave.size == 0:
        raise ValueError("the waveform is empty")
    repeats = -(-samples // wave.size)
    whole = wave if repeats == 1 else np.tile(wave, repeats)
    return whole[:samples].astype(np.float32, copy=False)


def resample(wave: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Return the waveform (n,) float32 resampled from `rate` to `new_rate` Hz by soxr, as librosa does.

    Raises ValueError or RuntimeError for rates that soxr does not convert.
    """
    if rate == new_rate:
        return wave
    import soxr

    resampled: np.ndarray = soxr.resample(wave, rate, new_rate, quality=RESAMPLING)
    return resampled


def _hann(size: int) -> np.ndarray:
    """Return the periodic Hann window (size,) float32."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)


def _samples(config: DataConfig) -> int:
    return round(config.seconds * config.sample_rate)
