"""Fixtures that several folders of tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from mgap_cli.config import DataConfig
from mgap_cli.output import Output

# Workers and tests share the machine: each has one thread, and results do not depend on the number.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The suite compares bits of the CPU, on every machine; MGAP_TEST_GPU=1 lets the tests that need a GPU see it.
if os.environ.get("MGAP_TEST_GPU") != "1":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

# The same examples on every machine, and no deadline: a loaded machine must not decide a test.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; without it, the test is skipped."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data (../shared/data) are not on this machine")
    return folder


@pytest.fixture
def small_config() -> DataConfig:
    """A protocol for fast decoding: two frames of 32 x 32, half a second of sound at 8 kHz, 65 x 63."""
    return DataConfig(frames=2, frame_size=32, sample_rate=8000, seconds=0.5, n_fft=128, hop=64)


@pytest.fixture
def sink() -> Output:
    return Output()


@pytest.fixture(scope="session")
def media_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a real media file by its suffix (.mp4, .flv, .mpg, .wav), encoded once per session."""
    from helpers.media import write_media

    folder = tmp_path_factory.mktemp("media")

    def make(suffix: str) -> Path:
        path = folder / f"clip{suffix}"
        if not path.exists():
            write_media(path)
        return path

    return make
