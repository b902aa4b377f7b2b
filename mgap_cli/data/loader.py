"""Batches out of a store: gathered by index, moved to the device, augmented there.

Every random draw is a function of (seed, epoch, step) alone, so that a run can be taken up at any step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from mgap_cli.data import augment

if TYPE_CHECKING:
    from torch import Tensor

    from mgap_cli.config import AugmentConfig
    from mgap_cli.data.store import Store


@dataclass(frozen=True)
class Batch:
    """index: (B,) positions in the store; labels: (B,); frames: (B, T, 3, S, S); audio: (B, 1, F, L)."""

    index: Tensor
    labels: Tensor
    frames: Tensor
    audio: Tensor


def generator_for(seed: int, *counters: int) -> torch.Generator:
    """Return a CPU generator seeded by `seed` and the counters, independent of every other tuple."""
    state = np.random.SeedSequence(seed, spawn_key=counters).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 32 | int(state[1]))


def training_steps(samples: int, batch_size: int) -> int:
    """Return the batches of a training epoch, which drops no sample.

    The last may be smaller. A single sample left over joins the batch before it instead: batch
    normalisation has no statistics of one sample.
    """
    return max(1, -(-(samples - 1) // batch_size))


class Loader:
    """Batches of the samples at `indices` of a store."""

    def __init__(
        self,
        store: Store,
        indices: np.ndarray,
        device: torch.device,
        config: AugmentConfig,
        batch_size: int,
    ) -> None:
        self.store, self.indices, self.device = store, indices, device
        self.config, self.batch_size = config, batch_size

    @property
    def steps(self) -> int:
        """Batches of a training epoch."""
        return training_steps(len(self.indices), self.batch_size)

    def training(self, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the epoch's shuffled, augmented batches, from step `start` on."""
        order = torch.randperm(len(self.indices), generator=generator_for(seed, epoch)).numpy()
        for step in range(start, self.steps):
            end = (step + 1) * self.batch_size if step < self.steps - 1 else len(order)
            batch = self._gather(self.indices[order[step * self.batch_size : end]])
            generator = generator_for(seed, epoch, step)
            frames = augment.augment(batch.frames, self.config, generator)
            audio = batch.audio
            if self.config.audio_mask:
                audio = augment.mask(audio, self.config.audio_mask, generator)
            yield Batch(batch.index, batch.labels, frames, audio)

    def ordered(self) -> Iterator[Batch]:
        """Yield every sample once, in the order of `indices`, without augmentation."""
        for start in range(0, len(self.indices), self.batch_size):
            batch = self._gather(self.indices[start : start + self.batch_size])
            frames = augment.resize(batch.frames, self.config.image_size)
            yield Batch(batch.index, batch.labels, frames, batch.audio)

    def _gather(self, chosen: np.ndarray) -> Batch:
        def moved(array: np.ndarray) -> Tensor:
            tensor = torch.from_numpy(array)
            if self.device.type == "cuda":
                tensor = tensor.pin_memory()
            return tensor.to(self.device, non_blocking=True)

        return Batch(
            index=moved(chosen),
            labels=moved(self.store.labels[chosen]),
            frames=augment.to_float(moved(self.store.frames[chosen])),
            audio=moved(self.store.audio[chosen]).float().unsqueeze(1),
        )
