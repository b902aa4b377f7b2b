"""The batches of an epoch: all samples, in an order from seed and epoch, continued at any step."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mgap_cli.config import AugmentConfig, DataConfig
from mgap_cli.data.loading.augment import to_float
from mgap_cli.data.loading.loader import Batch, Loader, generator_for
from mgap_cli.data.store import Store

N = 23
CHOSEN = np.array([2, 3, 5, 7, 8, 11, 12, 13, 16, 19, 22], dtype=np.int64)


@pytest.fixture(scope="module")
def store() -> Store:
    """23 samples of noise; a sample's audio starts with its position."""
    generator = np.random.default_rng(0)
    audio = generator.normal(size=(N, 5, 4)).astype(np.float16)
    audio[:, 0, 0] = np.arange(N)
    return Store(
        path=Path("store"),
        name="made",
        classes=("a", "b", "c"),
        ids=[str(i) for i in range(N)],
        labels=generator.integers(0, 3, N),
        splits=np.full(N, "train"),
        columns={},
        arrays={"audio": audio, "visual": generator.integers(0, 256, (N, 2, 12, 12, 3), dtype=np.uint8)},
        fingerprint="",
        data_config=DataConfig(),
        meta={},
    )


def loader(store: Store, batch_size: int = 4, image_size: int = 8) -> Loader:
    config = AugmentConfig(image_size=image_size, scale_min=0.3)
    return Loader(store, CHOSEN, torch.device("cpu"), config, batch_size)


def order(batches: Iterable[Batch]) -> list[int]:
    return [i for batch in batches for i in batch.index.tolist()]


def same(a: Batch, b: Batch) -> bool:
    inputs = a.inputs.keys() == b.inputs.keys() and all(
        torch.equal(x, b.inputs[m]) for m, x in a.inputs.items()
    )
    rest = ((a.index, b.index), (a.labels, b.labels), (a.copies, b.copies))
    return inputs and all(torch.equal(x, y) for x, y in rest)


@settings(max_examples=20, deadline=None)
@given(batch_size=st.integers(2, 15), seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 1000))
def test_an_epoch_covers_every_sample_once(store, batch_size, seed, epoch):
    made = loader(store, batch_size)
    batches = list(made.training(seed, epoch))
    assert sorted(order(batches)) == CHOSEN.tolist()
    assert len(batches) == made.steps
    assert all(len(b.index) == batch_size for b in batches[:-1])
    assert 2 <= len(batches[-1].index) <= batch_size + 1


def test_a_single_sample_left_over_joins_the_batch_before(store):
    assert [len(b.index) for b in loader(store, 5).training(0, 0)] == [5, 6]
    assert [len(b.index) for b in loader(store, 5).training(0, 0, start=1)] == [6]


def test_the_last_partial_batch_is_not_dropped(store):
    assert [len(b.index) for b in loader(store, 4).training(0, 0)] == [4, 4, 3]
    assert [len(b.index) for b in loader(store, 4).ordered()] == [4, 4, 3]


def test_groups_follow_one_another_and_copies_are_numbered(store):
    """No batch mixes groups; a repeated sample has the copies 0, 1, ..., also across groups."""
    made = loader(store, 3)
    first, second = CHOSEN[[0, 1, 1, 2, 1]], CHOSEN[[3, 2, 4]]
    made.arrange([first, second, CHOSEN[:1]])
    batches = list(made.training(3, 1))
    assert made.steps == len(batches) == 3
    assert [len(b.index) for b in batches] == [3, 2, 3]
    assert sorted(order(batches[:2])) == sorted(first.tolist())
    assert sorted(order(batches[2:])) == sorted(second.tolist()), "a group of one sample is left out"
    seen: dict[int, list[int]] = {}
    for batch in batches:
        for position, copy in zip(batch.index.tolist(), batch.copies.tolist(), strict=True):
            seen.setdefault(position, []).append(copy)
    assert {p: sorted(c) for p, c in seen.items()} == {
        int(CHOSEN[0]): [0], int(CHOSEN[1]): [0, 1, 2], int(CHOSEN[2]): [0, 1],
        int(CHOSEN[3]): [0], int(CHOSEN[4]): [0],
    }  # fmt: skip
    assert all(same(a, b) for a, b in zip(batches[1:], made.training(3, 1, 1), strict=True))


def test_an_arrangement_without_a_batch_changes_nothing(store):
    made = loader(store)
    made.arrange([CHOSEN[:1], CHOSEN[:0]])
    assert sorted(order(made.training(0, 0))) == CHOSEN.tolist()


def test_the_order_depends_on_seed_and_epoch(store):
    made = loader(store)
    orders = [order(made.training(seed, epoch)) for seed in range(3) for epoch in range(3)]
    assert len({tuple(o) for o in orders}) == 9
    assert order(made.training(1, 2)) == orders[5]
    torch.manual_seed(5)
    np.random.seed(5)
    assert order(made.training(1, 2)) == orders[5]


@pytest.mark.parametrize("start", range(4))
def test_an_epoch_taken_up_at_a_step_is_its_tail(store, start):
    made = loader(store)
    whole, tail = list(made.training(7, 3)), list(made.training(7, 3, start))
    assert len(tail) == len(whole) - start
    assert all(same(a, b) for a, b in zip(whole[start:], tail, strict=True))


def test_crops_differ_between_steps_and_epochs(store):
    made = Loader(store, np.zeros(8, dtype=np.int64), torch.device("cpu"), AugmentConfig(image_size=8), 2)
    crops = [batch.inputs["visual"] for epoch in range(2) for batch in made.training(0, epoch)]
    assert len(crops) == 8
    assert not any(torch.equal(crops[i], crops[j]) for i in range(8) for j in range(i))


def test_batches_have_the_samples_of_the_store(store):
    for batch in loader(store).training(0, 0):
        index = batch.index.numpy()
        np.testing.assert_array_equal(batch.labels, store.labels[index])
        np.testing.assert_array_equal(batch.inputs["audio"][:, 0], store.audio[index].astype(np.float32))
        assert batch.inputs["audio"].shape == (len(index), 1, 5, 4)
        assert batch.inputs["visual"].shape == (len(index), 2, 3, 8, 8)
        assert batch.inputs["audio"].dtype == batch.inputs["visual"].dtype == torch.float32


def test_ordered_is_the_stores_order_without_augmentation(store):
    made = loader(store, image_size=12)
    batches = list(made.ordered())
    assert order(batches) == CHOSEN.tolist()
    frames = torch.cat([b.inputs["visual"] for b in batches])
    assert torch.equal(frames, to_float(torch.from_numpy(store.frames[CHOSEN])))
    assert all(same(a, b) for a, b in zip(batches, made.ordered(), strict=True))


def test_generators_are_independent_of_one_another():
    keys = [(0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (2**32 - 1, 0)]
    draws = torch.stack([torch.rand(2000, generator=generator_for(*k)) for k in keys]).numpy()
    correlations = np.corrcoef(draws) - np.eye(len(keys))
    assert np.abs(correlations).max() < 0.1
    assert torch.equal(
        torch.rand(3, generator=generator_for(4, 2)), torch.rand(3, generator=generator_for(4, 2))
    )
