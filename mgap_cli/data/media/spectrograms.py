"""The input of the audio branch by `data.audio`: log |STFT|, or Kaldi's log mel filter banks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgap_cli.config import DataConfig
from mgap_cli.data.media import audio, filter_banks
from mgap_cli.errors import MgapError, reason_of

if TYPE_CHECKING:
    import numpy as np


def spectrogram_shape(config: DataConfig) -> tuple[int, int]:
    """Return the shape (F, L) of every clip's spectrogram: frequency bins and time columns."""
    if config.audio == "fbank":
        return filter_banks.filter_bank_shape(config)
    return audio.log_spectrogram_shape(config)


def spectrogram(wave: np.ndarray, config: DataConfig) -> np.ndarray:
    """Return the spectrogram (F, L) float16 of a mono waveform (n,) float32 at `sample_rate`.

    Raises ValueError if it is empty.
    """
    if config.audio == "fbank":
        return filter_banks.log_filter_banks(wave, config)
    return audio.log_spectrogram(wave, config)


def packages_of(config: DataConfig) -> tuple[str, ...]:
    """Return the modules that `spectrogram` imports in addition to those of every protocol."""
    return (filter_banks.PACKAGE,) if config.audio == "fbank" else ()


def require_packages(config: DataConfig) -> None:
    """Raise MgapError if a package that `spectrogram` needs cannot be imported."""
    if config.audio == "fbank":
        try:
            filter_banks.import_kaldi()
        except (ImportError, OSError, RuntimeError) as error:
            raise MgapError(
                f"data.audio=fbank needs torchaudio, which cannot be imported ({reason_of(error)}).",
                "Run mgap doctor, or use --set data.audio=stft.",
            ) from error
