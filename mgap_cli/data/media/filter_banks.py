"""Kaldi's log mel filter banks. This is the only module that imports torchaudio.

They follow MLA (Zhang et al., CVPR 2024; `data/extract_fbank.py` of its repository), which follows AST and
CAV-MAE. The mean of the wave is removed. Hann windows of 25 ms are taken every 10 ms, without dither. The
columns are cut to `data.seconds`, or filled up to it with zeros. Then the mean and standard deviation of
CAV-MAE (Gong et al., ICLR 2023), which the program of MLA uses too, are applied: (x + 5.081) / 4.4849.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType

import numpy as np

from mgap_cli.config import DataConfig

PACKAGE = "torchaudio.compliance.kaldi"
WINDOW_MS, SHIFT_MS = 25.0, 10.0
MEAN, SD = -5.081, 4.4849  # mean and standard deviation of log mel energies


def filter_bank_shape(config: DataConfig) -> tuple[int, int]:
    """Return (F, L): `mel_bins` and one column per 10 ms of `seconds`."""
    return config.mel_bins, max(1, round(1000 * config.seconds / SHIFT_MS))


def log_filter_banks(wave: np.ndarray, config: DataConfig) -> np.ndarray:
    """Return standardised log mel energies (F, L) float16 of a mono waveform (n,) at `sample_rate`.

    A sound that is shorter than `seconds` is filled with 0 and not repeated, as in MLA. Raises ValueError if
    the waveform is empty.
    """
    if wave.size == 0:
        raise ValueError("the waveform is empty")
    import torch

    kaldi = import_kaldi()
    finite = np.nan_to_num(wave.astype(np.float32))
    bins, columns = filter_bank_shape(config)
    if finite.size < config.sample_rate * WINDOW_MS / 1000:
        return _standardised(np.zeros((0, bins), np.float32), columns)
    energies = kaldi.fbank(
        torch.from_numpy(finite - finite.mean())[None],
        htk_compat=True,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=bins,
        dither=0.0,
        sample_frequency=float(config.sample_rate),
        frame_length=WINDOW_MS,
        frame_shift=SHIFT_MS,
    ).numpy()
    return _standardised(energies[:columns], columns)


def _standardised(energies: np.ndarray, columns: int) -> np.ndarray:
    """Return energies (at most L, F), filled with zeros to L columns and standardised, as (F, L) float16."""
    filled = np.zeros((columns, energies.shape[1]), np.float32)
    filled[: len(energies)] = energies
    standardised: np.ndarray = ((filled - MEAN) / SD).T.astype(np.float16, order="C")
    return standardised


@cache
def import_kaldi() -> ModuleType:
    """Return torchaudio's module of Kaldi's features, with one thread, as prepare has a process per core."""
    import torch
    import torchaudio.compliance.kaldi as kaldi

    torch.set_num_threads(1)
    module: ModuleType = kaldi
    return module
