"""Frames that training draws again in each epoch depend only on seed, epoch and sample."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.program import TINY, assert_same_checkpoint, mgap, sets, start

from mgap_cli.config import AugmentConfig, DataConfig
from mgap_cli.data.loading.augment import IMAGENET_MEAN, IMAGENET_STD
from mgap_cli.data.loading.loader import Batch, Loader
from mgap_cli.data.store import Store

N, STORED, SEEN = 40, 6, 3
PLAIN = AugmentConfig(image_size=8, scale_min=1.0, flip=False)


@pytest.fixture(scope="module")
def store() -> Store:
    """Samples whose frames have one grey level each: 40 times their position in time."""
    frames = np.empty((N, STORED, 8, 8, 3), np.uint8)
    frames[:] = 40 * np.arange(STORED)[None, :, None, None, None]
    return Store(
        path=Path("store"),
        name="made",
        classes=("a", "b"),
        ids=[str(i) for i in range(N)],
        labels=np.arange(N) % 2,
        splits=np.full(N, "train"),
        columns={},
        arrays={"audio": np.zeros((N, 5, 4), np.float16), "visual": frames},
        fingerprint="",
        data_config=DataConfig(frames=SEEN, candidates=STORED),
        meta={},
    )


def loader(store: Store, batch_size: int = 7, **share: int) -> Loader:
    return Loader(store, np.arange(N), torch.device("cpu"), PLAIN, batch_size, **share)


def positions(batch: Batch) -> np.ndarray:
    """Return the positions of the frames in a batch, (B, T), read from their grey level."""
    levels = batch.inputs["visual"][:, :, 0, 4, 4] * IMAGENET_STD[0] + IMAGENET_MEAN[0]
    return np.rint(levels.numpy() * 255 / 40).astype(int)


def seen(batches: list[Batch]) -> dict[int, tuple[int, ...]]:
    pairs = (zip(b.index.tolist(), positions(b).tolist(), strict=True) for b in batches)
    return {sample: tuple(frames) for batch in pairs for sample, frames in batch}


def test_each_epoch_draws_different_frames_in_order_of_time(store):
    epochs = [seen(list(loader(store).training(0, epoch))) for epoch in range(30)]
    assert all(list(frames) == sorted({*frames}) for drawn in epochs for frames in drawn.values())
    assert len({tuple(drawn.items()) for drawn in epochs}) == 30
    counts = np.bincount(
        [f for drawn in epochs for frames in drawn.values() for f in frames], minlength=STORED
    )
    expected = 30 * N * SEEN / STORED
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected / 2), "every candidate is equally likely"


def test_the_draw_depends_on_seed_epoch_and_sample_alone(store):
    frames_of = seen(list(loader(store).training(3, 2)))
    torch.manual_seed(1)
    assert seen(list(loader(store, batch_size=11).training(3, 2))) == frames_of
    assert (
        seen(list(loader(store).training(4, 2))) != frames_of
        and seen(list(loader(store).training(3, 1))) != frames_of
    )
    few = Loader(store, np.array([30, 4, 17]), torch.device("cpu"), PLAIN, 2)
    assert seen(list(few.training(3, 2))) == {i: frames_of[i] for i in (30, 4, 17)}


def test_processes_and_a_resumed_epoch_see_the_same_frames(store):
    whole = list(loader(store, 8).training(5, 1))
    parts = [list(loader(store, 8, rank=rank, ranks=2).training(5, 1)) for rank in range(2)]
    for batch, *shares in zip(whole, *parts, strict=True):
        assert torch.equal(batch.inputs["visual"], torch.cat([s.inputs["visual"] for s in shares]))
    tail = list(loader(store, 8).training(5, 1, start=3))
    assert all(
        torch.equal(a.inputs["visual"], b.inputs["visual"]) for a, b in zip(whole[3:], tail, strict=True)
    )


def test_evaluation_sees_evenly_spaced_frames(store):
    assert {*seen(list(loader(store).ordered())).values()} == {(1, 3, 5)}


def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path):
    """The two runs are separate processes: a draw does not depend on the process either."""
    protocol = sets("data.frames=2", "data.candidates=4", "data.frame_size=8", "data.sample_rate=4000")
    sound = sets("data.seconds=0.3", "data.n_fft=64", "data.hop=40")
    assert mgap("prepare", "digits", "-o", tmp_path / "s", *protocol, *sound).code == 0

    def line(run: str) -> list[object]:
        method = ["--method", "joint-heads", "--epochs", 2, "--batch-size", 256]
        return ["train", tmp_path / "s", "-o", tmp_path / run, *method, *sets(*TINY)]

    assert mgap(*line("whole")).code == 0
    running = start(*line("killed"), pause=(1, 2))
    running.until_paused()
    running.send(signal.SIGKILL)
    assert running.wait().code == -signal.SIGKILL
    assert mgap(*line("killed")).code == 0
    assert_same_checkpoint(tmp_path / "whole" / "train.pt", tmp_path / "killed" / "train.pt")
