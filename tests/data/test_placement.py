"""Batches are the same bits for every place of the samples; the choice obeys the stated memory shares."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from helpers.program import HANG

from mgap_cli.config import AugmentConfig, DataConfig, RuntimeConfig
from mgap_cli.data.loading import placement
from mgap_cli.data.loading.loader import Loader
from mgap_cli.data.loading.placement import AHEAD, Samples, available_memory, place_samples
from mgap_cli.data.store import Store
from mgap_cli.output import Output

CPU = torch.device("cpu")
N = 23


@pytest.fixture
def store(tmp_path) -> Store:
    """23 samples of noise in memory maps, as from `open_store`."""
    generator = np.random.default_rng(0)
    np.save(tmp_path / "frames.npy", generator.integers(0, 256, (N, 2, 12, 12, 3), dtype=np.uint8))
    np.save(tmp_path / "audio.npy", generator.normal(size=(N, 5, 4)).astype(np.float16))
    frames, audio = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("frames", "audio"))
    labels = generator.integers(0, 3, N)
    ids, splits = [str(i) for i in range(N)], np.full(N, "train")
    return Store(
        tmp_path,
        "made",
        ("a", "b", "c"),
        ids,
        labels,
        splits,
        {},
        {"audio": audio, "visual": frames},
        "",
        DataConfig(),
        {},
    )


def batches(store: Store, location: placement.Location, start: int = 0) -> list[tuple[torch.Tensor, ...]]:
    config = AugmentConfig(image_size=8, audio_mask=0.3)
    samples = Samples(store, CPU, location)
    loader = Loader(store, np.arange(1, N), CPU, config, 4, samples=samples)
    drawn = [*loader.training(3, 1, start), *loader.ordered()]
    return [(b.index, b.labels, b.inputs["visual"], b.inputs["audio"]) for b in drawn]


@pytest.mark.parametrize("location", ["memory", "device"])
@pytest.mark.parametrize("start", [0, 2])
def test_batches_are_the_same_bits_from_anywhere(store, location, start):
    mapped, other = batches(store, "map", start), batches(store, location, start)
    assert len(mapped) == len(other)
    for a, b in zip(mapped, other, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_gathered_samples_are_the_stores(store):
    chosen = np.array([5, 0, 22])
    for location in ("map", "memory", "device"):
        (raw,) = Samples(store, CPU, location).gather([chosen])
        np.testing.assert_array_equal(raw["visual"], store.frames[chosen])
        np.testing.assert_array_equal(raw["audio"], store.audio[chosen])
        assert (raw["visual"].dtype, raw["audio"].dtype) == (torch.uint8, torch.float16)


def test_only_the_next_batches_are_read_ahead(store, monkeypatch):
    samples = Samples(store, CPU)
    gathered, threads = [], set()
    original = samples._gathered

    def watched(chosen):
        gathered.append(int(chosen[0]))
        threads.add(threading.current_thread().name)
        return original(chosen)

    monkeypatch.setattr(samples, "_gathered", watched)
    drawn = samples.gather(np.array([i]) for i in range(20))
    next(drawn)
    deadline = time.monotonic() + HANG
    while len(gathered) < 1 + AHEAD and time.monotonic() < deadline:
        time.sleep(0.01)
    assert gathered == list(range(1 + AHEAD))
    drawn.close()
    assert threading.current_thread().name not in threads
    assert not any(t.name in threads for t in threading.enumerate())


def test_an_error_in_the_thread_reaches_the_loop(store, monkeypatch):
    def unreadable(chosen):
        raise OSError("the disk is gone")

    samples = Samples(store, CPU)
    monkeypatch.setattr(samples, "_gathered", unreadable)
    with pytest.raises(OSError, match="the disk is gone"):
        list(samples.gather([np.array([0])]))


@pytest.mark.parametrize(
    ("free", "processes", "location"), [(2.1, 1, "memory"), (1.9, 1, "map"), (2.1, 2, "map")]
)
def test_memory_is_taken_within_its_share(store, monkeypatch, capsys, free, processes, location):
    size = store.frames.nbytes + store.audio.nbytes
    monkeypatch.setattr(placement, "available_memory", lambda: int(free * size))
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    config = RuntimeConfig(memory_share=0.5)
    assert place_samples(store, CPU, config, Output()).location == location
    log = " ".join(capsys.readouterr().err.split())
    assert {"memory": "within 50%", "map": "over 50%"}[location] in log


def test_available_memory_is_what_the_system_says():
    assert 0 < available_memory() < 1 << 50


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("location", ["map", "memory", "device"])
def test_on_a_gpu_batches_are_the_stores(store, location):
    chosen = [np.arange(i, i + 4) for i in range(19)]
    for some, raw in zip(chosen, Samples(store, torch.device("cuda"), location).gather(chosen), strict=True):
        np.testing.assert_array_equal(raw["visual"].cpu(), store.frames[some])
        np.testing.assert_array_equal(raw["audio"].cpu(), store.audio[some])
