"""Measure how accuracy falls as an input gets worse: noise, occlusion, or a missing modality.

Every random draw is a function of the seed and the clip. Every level and every checkpoint gets the same
noise, only scaled; batch size and device do not matter.

audio noise   White Gaussian noise at a signal-to-noise ratio in dB. The store holds log |STFT| and no
              waveforms, so the sum is formed there: a white-noise waveform is drawn and transformed with
              the store's own window and hop, scaled, and added to the clip's STFT as a complex number.
              The phase of the clip's is not stored and taken as 0: since that of the noise is uniform,
              each |sum| has the right (Rice) distribution, and neighbouring bins of noise are correlated as
              the window correlates them. What this is not: the joint distribution over neighbouring bins
              of signal and noise, nor the clipping of a loud sum to [-1, 1]. Power is the mean square
              over the window-weighted waveform, by Parseval's theorem the sum over both sides of the
              spectrum; the ratio is met exactly in each clip. A silent clip stays silent.
frame noise   Gaussian noise of that standard deviation on every pixel and colour of the network's input,
              where black is 0 and white is 1; cut to [0, 1].
occlusion     A square of that share of the frame's area behind ImageNet's mean colour, at a random place,
              the same in all frames of a clip.
missing       The whole input of a modality of any kind replaced by zeros, which is ImageNet's mean colour for
              frames, or by the mean over the training split, value by value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mgap_cli.config import AudioName, EvaluateConfig
from mgap_cli.data.loading.augment import IMAGENET_MEAN, IMAGENET_STD
from mgap_cli.data.loading.loader import Batch, Loader, generator_for
from mgap_cli.data.media.audio import LOG_FLOOR
from mgap_cli.evaluation.decision_rules.base import DecisionRule
from mgap_cli.evaluation.metrics import DECISION, share_interval
from mgap_cli.modalities.modality import Modality, ModalityKind
from mgap_cli.model.inference import Predictions, predict
from mgap_cli.stats.intervals import Interval
from mgap_cli.stats.opinion_pool import log_probabilities
from mgap_cli.training.trained_model import TrainedModel

CLEAN, AUDIO_NOISE, FRAME_NOISE, OCCLUSION = "clean", "audio noise", "frame noise", "occlusion"
FILLS = ("zeros", "mean")
_NOISE, _PIXELS, _CORNER = range(3)  # numbers of the streams of random numbers


@dataclass(frozen=True)
class Condition:
    """A corruption of one modality at a level. `fill` is the replacement for a missing modality.

    modality: the modality whose input is corrupted; empty for clean inputs.
    """

    corruption: str
    level: float | None = None
    fill: str = ""
    modality: str = ""

    @property
    def text(self) -> str:
        """Return the level in words, with its unit."""
        if self.level is None:
            return self.fill
        if self.corruption == AUDIO_NOISE:
            return f"{self.level:g} dB"
        return f"{100 * self.level:g} %" if self.corruption == OCCLUSION else f"sd {self.level:g}"


@dataclass(frozen=True)
class Measured:
    """A condition with each head's accuracy and its Wilson interval."""

    condition: Condition
    accuracy: dict[str, float]
    interval: dict[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        return {
            "corruption": self.condition.corruption,
            "level": self.condition.level,
            "fill": self.condition.fill or None,
            "heads": {
                head: {"accuracy": accuracy, "accuracy_interval": self.interval[head].to_list()}
                for head, accuracy in self.accuracy.items()
            },
        }


def missing(modality: str, fill: str) -> Condition:
    """Return the condition in which `fill` (one of `FILLS`) replaces the whole input of a modality."""
    return Condition(f"{modality} missing", fill=fill, modality=modality)


def conditions(
    config: EvaluateConfig, modalities: Sequence[Modality], audio: AudioName = "stft"
) -> list[Condition]:
    """Return every condition but the clean one, each corruption from mild to severe.

    A modality's kind decides its corruptions; any modality may be missing. audio: the form of the sound in
    the store; noise can be added to an STFT only.
    """
    levels: dict[ModalityKind, dict[str, Sequence[float]]] = {
        "spectrogram": {AUDIO_NOISE: sorted(config.snr_db, reverse=True)} if audio == "stft" else {},
        "frames": {FRAME_NOISE: sorted(config.frame_noise), OCCLUSION: sorted(config.occlusion)},
    }
    return [
        *(
            Condition(corruption, level, modality=m.name)
            for m in modalities
            for corruption, strengths in levels.get(m.kind, {}).items()
            for level in strengths
        ),
        *(missing(m.name, fill) for m in modalities for fill in FILLS),
    ]


def sweep(
    model: TrainedModel,
    split: str,
    clean: Predictions,
    config: EvaluateConfig,
    tick: Callable[[], None] = lambda: None,
    decision: DecisionRule | None = None,
) -> list[Measured]:
    """Return the accuracies under every condition, the clean one first; `clean` are its predictions.

    decision: a fitted rule that is measured too; it ignores the head of a missing modality. tick: called
    after each pass over the split.
    """
    means, stored = training_means(model), model.store.data_config
    measured = [_measured(Condition(CLEAN), clean, model, config, decision)]
    for condition in conditions(config, model.checkpoint.modalities, stored.audio):
        corrupted = (
            corrupt(batch, condition, config.seed, stored.n_fft, stored.hop, means)
            for batch in _loader(model, split).ordered()
        )
        predictions = predict(model.network, corrupted)
        measured.append(_measured(condition, predictions, model, config, decision))
        tick()
    return measured


def corrupt(
    batch: Batch, condition: Condition, seed: int, n_fft: int, hop: int, means: dict[str, Tensor]
) -> Batch:
    """Return the batch under a condition. means: the training split's inputs, by modality."""
    if condition.corruption == CLEAN:
        return batch
    name = condition.modality
    if condition.fill:
        inputs = batch.inputs[name]
        filled = torch.zeros_like(inputs) if condition.fill == "zeros" else means[name].expand_as(inputs)
        return _replaced(batch, name, filled)
    assert condition.level is not None
    clips = batch.index.tolist()
    if condition.corruption == AUDIO_NOISE:
        return _replaced(batch, name, add_noise(batch.inputs[name], condition.level, clips, seed, n_fft, hop))
    if condition.corruption == FRAME_NOISE:
        return _replaced(batch, name, add_pixel_noise(batch.inputs[name], condition.level, clips, seed))
    return _replaced(batch, name, occlude(batch.inputs[name], condition.level, clips, seed))


def _replaced(batch: Batch, modality: str, inputs: Tensor) -> Batch:
    """Return the batch with the inputs of one modality replaced."""
    return replace(batch, inputs={**batch.inputs, modality: inputs})


def add_noise(audio: Tensor, snr_db: float, clips: list[int], seed: int, n_fft: int, hop: int) -> Tensor:
    """Add white noise to (B, 1, F, L) log-spectrograms, log(|STFT| + 1e-7), at a ratio in dB.

    The module's docstring describes the noise. clips: the clips' keys; the draws depend on them and on the
    seed.
    """
    length = (audio.shape[-1] - 1) * hop + n_fft
    waves = [torch.randn(length, generator=generator_for(seed, _NOISE, clip)) for clip in clips]
    window = torch.hann_window(n_fft)  # periodic, as the store's
    noise = torch.stft(torch.stack(waves), n_fft, hop, window=window, center=False, return_complex=True)
    noise = noise.to(audio.device).unsqueeze(1)
    magnitude = (audio.exp() - LOG_FLOOR).clamp(min=0)
    ratio = _power(magnitude, n_fft) / _power(noise.abs(), n_fft)
    scale = (ratio * 10 ** (-snr_db / 10)).sqrt()
    return ((magnitude + scale * noise).abs() + LOG_FLOOR).log()


def add_pixel_noise(frames: Tensor, sd: float, clips: list[int], seed: int) -> Tensor:
    """Add Gaussian noise to (B, T, 3, S, S) normalised frames; `sd` is in units in which white is 1."""
    mean, std = (torch.tensor(v, device=frames.device).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    draws = [torch.randn(frames.shape[1:], generator=generator_for(seed, _PIXELS, clip)) for clip in clips]
    noisy = frames * std + mean + sd * torch.stack(draws).to(frames.device)
    return (noisy.clamp(0, 1) - mean) / std


def occlude(frames: Tensor, share: float, clips: list[int], seed: int) -> Tensor:
    """Cover a square of a share of (B, T, 3, S, S) normalised frames' area with ImageNet's mean colour."""
    size = frames.shape[-1]
    side = min(size, max(1, round(size * share**0.5)))
    covered = frames.clone()
    for row, clip in enumerate(clips):
        corner = torch.rand(2, generator=generator_for(seed, _CORNER, clip)) * (size - side + 1)
        top, left = corner.long().tolist()
        covered[row, :, :, top : top + side, left : left + side] = 0
    return covered


def _power(magnitude: Tensor, n_fft: int) -> Tensor:
    """Return the mean power of (B, 1, F, L) one-sided spectra up to a common factor, (B, 1, 1, 1)."""
    sides = torch.full((magnitude.shape[2], 1), 2.0, device=magnitude.device)
    sides[0] = 1
    if n_fft % 2 == 0:
        sides[-1] = 1
    return (sides * magnitude**2).sum(dim=(2, 3), keepdim=True)


def _measured(
    condition: Condition,
    predictions: Predictions,
    model: TrainedModel,
    config: EvaluateConfig,
    decision: DecisionRule | None,
) -> Measured:
    probabilities = {head: predictions.probabilities[head] for head in model.heads}
    if decision is not None:
        gone = condition.modality if condition.fill else ""
        present = {head: p for head, p in probabilities.items() if head != gone}
        decided = decision.combine(log_probabilities(present or probabilities))
        probabilities = {DECISION: decided, **probabilities}
    correct = {head: p.argmax(axis=1) == predictions.labels for head, p in probabilities.items()}
    return Measured(
        condition,
        {head: float(np.mean(hits)) for head, hits in correct.items()},
        {head: share_interval(hits, config) for head, hits in correct.items()},
    )


def _loader(model: TrainedModel, split: str) -> Loader:
    size = model.config.runtime.eval_batch_size
    return Loader(model.store, model.store.indices(split), model.device, model.config.augment, size)


def training_means(model: TrainedModel) -> dict[str, Tensor]:
    """Return the mean input over the training split by modality, in the shape of one input of each."""
    sums: dict[str, Tensor] = {}
    count = 0
    for batch in _loader(model, "train").ordered():
        for modality, inputs in batch.inputs.items():
            total = inputs.sum(dim=0).cpu()
            zero = torch.zeros((), dtype=torch.float64)
            sums[modality] = sums.get(modality, zero) + total
        count += len(batch.labels)
    return {modality: (total / count).float().to(model.device) for modality, total in sums.items()}
