"""The encoder `motion` learns a class that only the order of frames shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.program import mgap, sets
from helpers.stores import made

from mgap_cli.config import DataConfig
from mgap_cli.data.clips import Clip, Dataset

PROTOCOL = DataConfig(frames=8, frame_size=16, sample_rate=8000, seconds=0.2, n_fft=128, hop=64, val_share=0)
TRAINING = sets(
    *("model.encoder=resnet10", "model.width=4", "model.hidden=32", "augment.image_size=16"),
    *("augment.flip=false", "augment.scale_min=1", "train.batch_size=16", "train.optimizer=adamw"),
    *("train.lr=0.01", "train.schedule=cosine", "train.epochs=6", "evaluate.bootstrap=20"),
)


def moving_bar(clip: Clip, config: DataConfig) -> tuple[np.ndarray, np.ndarray]:
    """Make a clip in which a bar moves once around; the label says in which direction, the id from where."""
    start, step = int(clip.id) % 8, 1 if clip.label == "right" else -1
    frames = np.zeros((config.frames, config.frame_size, config.frame_size, 3), np.uint8)
    for t in range(config.frames):
        column = 2 * ((start + step * t) % 8)
        frames[t, :, column : column + 2] = 255
    return frames, np.zeros(1600, np.float32)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    splits = ("train", "train", "train", "val", "test")
    clips = [Clip(str(i), ("left", "right")[i // 8 % 2], splits[i // 16 % 5]) for i in range(400)]
    folder = tmp_path_factory.mktemp("moving") / "store"
    return made(Dataset("moving", clips, ("left", "right"), reader=moving_bar), folder, PROTOCOL)


@pytest.mark.parametrize(("encoder", "accuracy"), [("motion", 1.0), ("resnet10", 0.5)])
def test_direction_of_movement(encoder, accuracy, store, tmp_path):
    """All frames of the two classes are the same, so an average over frames cannot tell them apart."""
    line = ["train", store, "--method", "unimodal", "-o", tmp_path, *TRAINING]
    chosen = sets("unimodal.modality=visual", f"model.encoders.visual={encoder}")
    assert mgap(*line, *chosen).code == 0
    (evaluation,) = mgap("evaluate", tmp_path, "--json").json()["evaluations"]
    assert evaluation["heads"]["visual"]["accuracy"] == pytest.approx(accuracy, abs=0.1)
