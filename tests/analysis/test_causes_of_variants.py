"""The diagnosis on small networks that were trained on data whose cause is known, with one seed.

`tests/benchmarks/causes.py` measures it on the real variants with ten seeds.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from helpers.program import here, sets

from mgap_cli.analysis.causes import diagnose
from mgap_cli.config import DataConfig
from mgap_cli.data.prepare.build import build_store
from mgap_cli.data.sources import digit_pictures, digits, load_dataset
from mgap_cli.output import Output
from mgap_cli.training.trained_model import open_trained

DATA = DataConfig(
    frames=1, frame_size=16, sample_rate=4000, seconds=0.3, n_fft=64, hop=40, val_share=0.3, seed=0
)
CLIPS = 600
TRAINING = [
    *("train.epochs=14", "train.lr=0.03", "train.batch_size=16", "model.width=8"),
    *("augment.image_size=16", "augment.audio_mask=0", "runtime.threads=1"),
]


@pytest.mark.parametrize(
    ("variant", "crop"),
    [("late", 0.8), ("memorised", 1), ("uninformative", 0.8)],  # without crops noise is memorised too
)
def test_the_cause_of_a_variant(variant, crop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(digit_pictures, "STRIPES", 0.065)  # fewer and smaller pictures than the real data
    monkeypatch.setattr(digits, "SNR_DB", (20.0, 30.0))
    dataset = load_dataset("digits", None, DATA, variant=variant)
    dataset = dataclasses.replace(dataset, clips=dataset.clips[:CLIPS])
    store = build_store(dataset, DATA, tmp_path / "store", Output(quiet=True), workers=1).path
    words = ("--method", "joint-heads", "--select", "last", "--quiet", "-o", tmp_path / "run")
    done = here("train", store, *words, *sets(*TRAINING, f"augment.scale_min={crop}"))
    assert done.code == 0, done.err
    model = open_trained(tmp_path / "run" / "train.pt", torch.device("cpu"))
    scores = model.scores("train"), model.scores("train", "held-out"), model.scores("val")
    audio, visual = diagnose(*scores, 0.95)
    assert visual.cause == variant, visual.sentence
    assert audio.cause == "balanced", audio.sentence
