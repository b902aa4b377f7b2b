"""Batches out of a store: gathered by index, moved to the device, augmented there.

Every random draw is a function of (seed, epoch, step) alone, so that a run can be taken up at any step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from mgap_cli.data.loading.frame_choice import drawn_frames, spread_frames, take_frames
from mgap_cli.data.loading.inputs import plain_inputs, training_inputs
from mgap_cli.data.loading.placement import Raw, Samples, send
from mgap_cli.processes import SMALLEST, shares

if TYPE_CHECKING:
    from torch import Tensor

    from mgap_cli.config import AugmentConfig
    from mgap_cli.data.store import Store

_FRAMES = 3  # the last counter of these draws; those of training steps have two counters, of resets a 2


@dataclass(frozen=True)
class Batch:
    """index: (B,) positions in the store; labels: (B,).

    inputs, by modality: spectrograms (B, 1, F, L), frames (B, T, 3, S, S), features (B, D), sequences
    (B, T, D) with NaN for missing steps. copies: (B,) which of the epoch's copies of its sample a row is,
    from 0. Where several processes share a batch, index, labels and copies are those of the whole batch, and
    inputs are this process's share.
    """

    index: Tensor
    labels: Tensor
    inputs: dict[str, Tensor]
    copies: Tensor


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


def copy_numbers(positions: np.ndarray) -> np.ndarray:
    """Return for each of (N,) positions how many of those before it are the same."""
    order = np.argsort(positions, kind="stable")
    ordered = positions[order]
    numbers = np.empty_like(positions)
    numbers[order] = np.arange(len(positions)) - np.searchsorted(ordered, ordered)
    return numbers


class Loader:
    """Batches of the samples at `indices` of a store; process `rank` of `ranks` holds its share of each.

    samples: where they lie (default: where the store has them, on disk). An epoch of training yields one
    group, all of `indices`, unless `arrange` says otherwise.
    """

    def __init__(
        self,
        store: Store,
        indices: np.ndarray,
        device: torch.device,
        config: AugmentConfig,
        batch_size: int,
        rank: int = 0,
        ranks: int = 1,
        samples: Samples | None = None,
    ) -> None:
        self.store, self.indices, self.device = store, indices, device
        self.config, self.batch_size = config, batch_size
        self.rank, self.ranks = rank, ranks
        self.samples = samples or Samples(store, device)
        self.groups: Sequence[np.ndarray] = [indices]

    @property
    def steps(self) -> int:
        """Batches of a training epoch."""
        return sum(training_steps(len(group), self.batch_size) for group in self.groups)

    def arrange(self, groups: Sequence[np.ndarray]) -> None:
        """Set what training epochs yield: groups of positions in the store, which may repeat.

        A group without enough samples for batch normalisation is left out; if all are, nothing changes.
        """
        self.groups = [group for group in groups if len(group) >= SMALLEST] or self.groups

    def training(self, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the epoch's shuffled, augmented batches, from step `start` on.

        They are the same however many processes share them. A process that a small batch leaves without a
        share gets its first samples, for the network to run on; what comes of them counts nowhere.
        """
        places = self._shuffled(generator_for(seed, epoch))[start:]
        positions = np.concatenate(self.groups)
        copies = copy_numbers(positions)
        chosen = [positions[some] for some in places]
        rows = [self._rows(len(some)) for some in chosen]
        shares_of = [some[own] for some, own in zip(chosen, rows, strict=True)]
        seen = self._frames_of_epoch(seed, epoch)
        with closing(self.samples.gather(shares_of)) as raws:
            steps = range(start, self.steps)
            for step, place, some, own, raw in zip(steps, places, chosen, rows, raws, strict=True):
                if seen is not None:
                    raw = self._with_frames(raw, seen[torch.from_numpy(some[own])])
                generator = generator_for(seed, epoch, step)
                modalities = self.store.modalities
                inputs = training_inputs(modalities, raw, self.config, generator, len(some), own)
                yield self._batch(some, copies[place], inputs)

    def ordered(self) -> Iterator[Batch]:
        """Yield every sample once, in the order of `indices`, without augmentation."""
        starts = range(0, len(self.indices), self.batch_size)
        chosen = [self.indices[start : start + self.batch_size] for start in starts]
        with closing(self.samples.gather(chosen)) as raws:
            for some, raw in zip(chosen, raws, strict=True):
                if self.store.data_config.candidates:
                    raw = self._with_frames(raw, spread_frames(len(some), self.store.data_config))
                inputs = plain_inputs(self.store.modalities, raw, self.config)
                yield self._batch(some, np.zeros_like(some), inputs)

    def _frames_of_epoch(self, seed: int, epoch: int) -> Tensor | None:
        """Return which frames of each sample of the store an epoch sees, (N, T); None if it sees all."""
        config = self.store.data_config
        if not config.candidates:
            return None
        return drawn_frames(len(self.store), config, generator_for(seed, epoch, 0, _FRAMES))

    def _with_frames(self, raw: Raw, positions: Tensor) -> Raw:
        """Return the samples with their frames at these positions alone."""
        frames = {
            m.name: take_frames(raw[m.name], positions) for m in self.store.modalities if m.kind == "frames"
        }
        return {**raw, **frames}

    def _shuffled(self, generator: torch.Generator) -> list[np.ndarray]:
        """Return each batch's places in the joined groups: one shuffled group after the other."""
        places, first = [], 0
        for group in self.groups:
            order = first + torch.randperm(len(group), generator=generator).numpy()
            ends = [self.batch_size * s for s in range(1, training_steps(len(group), self.batch_size))]
            places += np.split(order, ends)
            first += len(group)
        return places

    def _rows(self, total: int) -> slice:
        """Return this process's rows of a batch of `total`."""
        rows = shares(total, self.ranks)[self.rank]
        return rows if rows.start < rows.stop else slice(0, SMALLEST)

    def _batch(self, chosen: np.ndarray, copies: np.ndarray, inputs: dict[str, Tensor]) -> Batch:
        index, labels, numbers = (
            send(torch.from_numpy(array), self.device)
            for array in (chosen, self.store.labels[chosen], copies)
        )
        return Batch(index, labels, inputs, numbers)
