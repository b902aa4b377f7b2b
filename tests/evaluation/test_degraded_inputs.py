"""Degraded inputs: noise as in real noisy waveforms, exact levels, and no other change."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats

from mgap_cli.config import DataConfig, EvaluateConfig
from mgap_cli.data.loading.augment import to_float
from mgap_cli.data.loading.loader import Batch
from mgap_cli.data.media.audio import log_spectrogram
from mgap_cli.evaluation.robustness import (
    AUDIO_NOISE,
    CLEAN,
    FRAME_NOISE,
    OCCLUSION,
    Condition,
    add_noise,
    conditions,
    corrupt,
    missing,
)
from mgap_cli.modalities.audio_visual import AUDIO_VISUAL
from mgap_cli.modalities.features import array_modality

PROTOCOL = DataConfig(sample_rate=8000, seconds=2.0, n_fft=256, hop=100)
N_FFT, HOP = PROTOCOL.n_fft, PROTOCOL.hop
RATE = PROTOCOL.sample_rate


def spectrogram(wave: np.ndarray) -> np.ndarray:
    return np.asarray(log_spectrogram(wave.astype(np.float32), PROTOCOL), dtype=np.float64)


def tone() -> np.ndarray:
    t = np.arange(2 * RATE) / RATE
    return 0.05 * np.sin(2 * np.pi * 700 * t) * (1 + np.sin(2 * np.pi * 3 * t))


def noisy(audio: np.ndarray, snr_db: float, clips: list[int], seed: int = 0) -> np.ndarray:
    stacked = torch.from_numpy(np.stack([audio] * len(clips))).float().unsqueeze(1)
    return add_noise(stacked, snr_db, clips, seed, N_FFT, HOP)[:, 0].double().numpy()


def power(log_magnitude: np.ndarray) -> float:
    """Mean power over both sides of the spectrum."""
    one_sided = np.exp(log_magnitude) ** 2
    return float((one_sided[0] + 2 * one_sided[1:-1].sum(axis=0) + one_sided[-1]).sum())


@pytest.mark.parametrize("snr_db", [10.0, 0.0, -10.0])
def test_noise_has_the_distribution_of_a_noisy_waveform(snr_db: float):
    """The sum and spectrograms of noisy waveforms at the same ratio have the same quantiles."""
    clean = tone()
    ours = noisy(spectrogram(clean), snr_db, list(range(80)))
    generator = np.random.default_rng(0)
    sd = np.sqrt((clean**2).mean() / 10 ** (snr_db / 10))
    real = np.stack([spectrogram(clean + generator.normal(0, sd, clean.size)) for _ in range(80)])
    for band in (slice(0, 1), slice(1, 15), slice(18, 28), slice(60, 120), slice(128, 129)):
        a, b = (np.quantile(s[:, band, 4:-4], np.linspace(0.05, 0.95, 7)) for s in (ours, real))
        np.testing.assert_allclose(a, b, atol=0.12)  # nats: a bin of noise alone spreads over three


def test_noise_alone_is_rayleigh():
    """At -100 dB only noise is left: |N|^2 of an inner bin is exponential."""
    loud = np.exp(noisy(spectrogram(tone()), -100, list(range(4)))) ** 2
    draws = loud[:, 10:120:3, ::3].ravel()  # bins that the window leaves uncorrelated
    assert stats.kstest(draws / draws.mean(), "expon").pvalue > 0.001
    edge = loud[:, 0, ::3].ravel()  # the square of a real number, because the constant has no phase
    assert edge.var() / edge.mean() ** 2 == pytest.approx(2, abs=0.6)


def test_the_ratio_is_met():
    audio = spectrogram(tone())
    for snr_db in (5.0, -20.0):
        for one in noisy(audio, snr_db, list(range(5))):
            added = power(one) / power(audio) - 1  # the cross term averages out
            assert added == pytest.approx(10 ** (-snr_db / 10), rel=0.12)
    assert np.abs(noisy(audio, 100, [0])[0] - audio)[audio > -4].max() < 0.01


def test_silence_stays_silent():
    silent = np.full((N_FFT // 2 + 1, 161), np.log(1e-7))
    assert np.isfinite(noisy(silent, 0, [0])).all()
    assert np.allclose(noisy(silent, -5, [0]), silent, atol=0.2)


def batch(n: int = 6, size: int = 20, first: int = 0) -> Batch:
    generator = np.random.default_rng(3)
    frames = torch.from_numpy(generator.integers(0, 256, (n, 2, size, size, 3), dtype=np.uint8))
    audio = torch.from_numpy(np.stack([spectrogram(tone())] * n)).float().unsqueeze(1)
    index = torch.arange(first, first + n)
    zeros = torch.zeros(n, dtype=torch.int64)
    return Batch(index, zeros, {"audio": audio, "visual": to_float(frames)}, zeros)


ALL = conditions(EvaluateConfig(), AUDIO_VISUAL)
MEANS = {"visual": torch.full((2, 3, 20, 20), 0.25), "audio": torch.full((1, 129, 161), -3.0)}


def corrupted(b: Batch, condition: Condition, seed: int = 0) -> Batch:
    return corrupt(b, condition, seed, N_FFT, HOP, MEANS)


def part(b: Batch, rows: slice) -> Batch:
    inputs = {m: x[rows] for m, x in b.inputs.items()}
    return Batch(b.index[rows], b.labels[rows], inputs, b.copies[rows])


def with_frames(b: Batch, frames: torch.Tensor) -> Batch:
    return dataclasses.replace(b, inputs={**b.inputs, "visual": frames})


@pytest.mark.parametrize("condition", ALL, ids=lambda c: f"{c.corruption} {c.text}")
def test_only_the_named_modality_changes_whatever_the_batch(condition: Condition):
    b = batch()
    before = {m: x.clone() for m, x in b.inputs.items()}
    changed = corrupted(b, condition)
    assert all(torch.equal(b.inputs[m], before[m]) for m in before)  # not in place
    for m, x in changed.inputs.items():
        assert torch.equal(x, b.inputs[m]) == (m != condition.modality)
        assert x.shape == b.inputs[m].shape
    assert changed.inputs.keys() == b.inputs.keys()
    for rows in (slice(0, 1), slice(2, 6)):
        again = corrupted(part(b, rows), condition)
        for m, x in again.inputs.items():
            torch.testing.assert_close(x, changed.inputs[m][rows])
    if condition.level is not None:
        other = corrupted(b, condition, seed=1)
        assert not all(torch.equal(x, changed.inputs[m]) for m, x in other.inputs.items())


def test_clean_is_clean():
    b = batch()
    assert corrupted(b, Condition(CLEAN)) is b


def pixels(frames: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return frames * std.view(3, 1, 1) + mean.view(3, 1, 1)


def test_frame_noise_has_its_standard_deviation_and_stays_an_image():
    grey = batch(30)
    grey = with_frames(grey, to_float(torch.full((30, 2, 20, 20, 3), 128, dtype=torch.uint8)))
    noise = (
        pixels(corrupted(grey, Condition(FRAME_NOISE, 0.1, modality="visual")).inputs["visual"]) - 128 / 255
    )
    assert noise.std().item() == pytest.approx(0.1, rel=0.02) and abs(noise.mean().item()) < 0.002
    strong = pixels(corrupted(batch(), Condition(FRAME_NOISE, 1.0, modality="visual")).inputs["visual"])
    assert strong.min() >= -1e-6 and strong.max() <= 1 + 1e-6


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 1.0])
def test_occlusion_covers_one_square_of_its_share(share: float):
    b = batch(40)
    b = with_frames(b, torch.ones_like(b.inputs["visual"]))
    covered = corrupted(b, Condition(OCCLUSION, share, modality="visual")).inputs["visual"] == 0
    side = round(20 * share**0.5)
    assert (covered.sum(dim=(3, 4)) == side**2).all()
    assert (covered == covered[:, :1, :1]).all()  # alike in frames and colours
    rows, columns = covered[:, 0, 0].any(dim=2).sum(dim=1), covered[:, 0, 0].any(dim=1).sum(dim=1)
    assert (rows == side).all() and (columns == side).all()
    if side < 20:
        corners = {tuple(np.argwhere(c.numpy())[0]) for c in covered[:, 0, 0]}
        assert len(corners) > 5


def test_a_missing_modality_is_zeros_or_the_mean():
    b = batch()
    assert (corrupted(b, missing("audio", "zeros")).inputs["audio"] == 0).all()
    assert (corrupted(b, missing("audio", "mean")).inputs["audio"] == -3).all()
    assert (corrupted(b, missing("visual", "zeros")).inputs["visual"] == 0).all()
    assert (corrupted(b, missing("visual", "mean")).inputs["visual"] == 0.25).all()


def test_levels_go_from_mild_to_severe_as_configured():
    config = EvaluateConfig(snr_db=(-5, 20), frame_noise=(0.4, 0.1), occlusion=(0.3,))
    assert [(c.corruption, c.level, c.text) for c in conditions(config, AUDIO_VISUAL)][:5] == [
        (AUDIO_NOISE, 20, "20 dB"), (AUDIO_NOISE, -5, "-5 dB"), (FRAME_NOISE, 0.1, "sd 0.1"),
        (FRAME_NOISE, 0.4, "sd 0.4"), (OCCLUSION, 0.3, "30 %"),
    ]  # fmt: skip
    assert [(c.corruption, c.fill) for c in conditions(config, AUDIO_VISUAL)][5:] == [
        ("audio missing", "zeros"), ("audio missing", "mean"),
        ("visual missing", "zeros"), ("visual missing", "mean"),
    ]  # fmt: skip


def test_modalities_that_are_given_as_arrays_can_only_be_missing():
    modalities = [array_modality("text", (7,)), array_modality("gaze", (4, 3))]
    planned = conditions(EvaluateConfig(), modalities)
    assert [(c.corruption, c.fill, c.modality) for c in planned] == [
        ("text missing", "zeros", "text"), ("text missing", "mean", "text"),
        ("gaze missing", "zeros", "gaze"), ("gaze missing", "mean", "gaze"),
    ]  # fmt: skip
    inputs = {"text": torch.ones(5, 7), "gaze": torch.ones(5, 4, 3)}
    b = Batch(torch.arange(5), torch.zeros(5, dtype=torch.int64), inputs, torch.zeros(5, dtype=torch.int64))
    means = {"text": torch.full((7,), 2.0), "gaze": torch.full((4, 3), 3.0)}
    corrupted_inputs = [corrupt(b, c, 0, N_FFT, HOP, means).inputs for c in planned]
    assert [(x["text"].mean().item(), x["gaze"].mean().item()) for x in corrupted_inputs] == [
        (0, 1), (2, 1), (1, 0), (1, 3)
    ]  # fmt: skip
