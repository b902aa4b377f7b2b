"""Batches from a store: gathered by index, moved to the device, and augmented there.

Every random draw is a function of (seed, epoch, step) only, so that a run can continue from any step.
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

_FRAMES = 3  # the last counter of these draws; training steps have two counters, and resets end with 2


@dataclass(frozen=True)
class Batch:
    """A batch. index: (B,) positions in the store; labels: (B,).

    inputs, by modality: spectrograms (B, 1, F, L), frames (B, T, 3, S, S), features (B, D), sequences (B, T,
    D) with NaN for missing steps. copies: (B,) the number, from 0, of each row among the epoch's copies of
    its sample. If several processes share a batch, index, labels and copies are those of the whole batch, and
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
    """Return the batches of a training epoch, which contain every sample.

    The last batch may be smaller. A single remaining sample joins the batch before it, because batch
    normalisation needs two samples.
    """
    return max(1, -(-(samples - 1) // batch_size))


def copy_numbers(positions: np.ndarray) -> np.ndarray:
    """Return for each of (N,) positions how many earlier ones are equal to it."""
    order = np.argsort(positions, kind="stable")
    ordered = positions[order]
    numbers = np.empty_like(positions)
    numbers[order] = np.arange(len(positions)) - np.searchsorted(ordered, ordered)
    return numbers


class Loader:
    """Batches of the samples at `indices` of a store; process `rank` of `ranks` loads its share of each.

    samples: the place of the samples (default: the store on disk). An epoch of training yields all of
    `indices` as one group, unless `arrange` has set other groups.
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
        """Return the number of batches of a training epoch."""
        return sum(training_steps(len(group), self.batch_size) for group in self.groups)

    def arrange(self, groups: Sequence[np.ndarray]) -> None:
        """Set the groups that training epochs yield: positions in the store, which may repeat.

        A group with too few samples for batch normalisation is left out. If all groups are too small, nothing
        changes.
        """
        self.groups = [group for group in groups if len(group) >= SMALLEST] or self.groups

    def training(self, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the epoch's shuffled, augmented batches, from step `start` on.

        The batches are the same for any number of processes. If a small batch leaves a process without a
        share, the network runs on the batch's first samples there, and the results are not used.
        """
        batch_rows = self._shuffled(generator_for(seed, epoch))[start:]
        positions = np.concatenate(self.groups)
        copies = copy_numbers(positions)
        chosen = [positions[some] for some in batch_rows]
        rows = [self._rows(len(some)) for some in chosen]
        shares_of = [some[share] for some, share in zip(chosen, rows, strict=True)]
        seen = self._frames_of_epoch(seed, epoch)
        with closing(self.samples.gather(shares_of)) as raws:
            steps = range(start, self.steps)
            for step, position, some, share, raw in zip(steps, batch_rows, chosen, rows, raws, strict=True):
                if seen is not None:
                    raw = self._with_frames(raw, seen[torch.from_numpy(some[share])])
                generator = generator_for(seed, epoch, step)
                modalities = self.store.modalities
                inputs = training_inputs(modalities, raw, self.config, generator, len(some), share)
                yield self._batch(some, copies[position], inputs)

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
        """Return the frames of each sample that an epoch sees, (N, T); None if it sees all."""
        config = self.store.data_config
        if not config.candidates:
            return None
        return drawn_frames(len(self.store), config, generator_for(seed, epoch, 0, _FRAMES))

    def _with_frames(self, raw: Raw, positions: Tensor) -> Raw:
        """Return the samples with only the frames at these positions."""
        frames = {
            m.name: take_frames(raw[m.name], positions) for m in self.store.modalities if m.kind == "frames"
        }
        return {**raw, **frames}

    def _shuffled(self, generator: torch.Generator) -> list[np.ndarray]:
        """Return each batch's positions in the joined groups: one shuffled group after the other."""
        batches, first = [], 0
        for group in self.groups:
            order = first + torch.randperm(len(group), generator=generator).numpy()
            ends = [self.batch_size * s for s in range(1, training_steps(len(group), self.batch_size))]
            batches += np.split(order, ends)
            first += len(group)
        return batches

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
