"""Every command works with three modalities of arrays that the user has named."""

from __future__ import annotations

import csv
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from helpers.program import metrics, mgap, sets

NAMES = ("text", "gaze", "heart")  # from the most informative to the least
TRAINING = sets("train.epochs=6", "warmup.epochs=3", "evaluate.bootstrap=50", "gap.n_init=1")


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> Path:
    """A file of 360 samples of three classes, whose modalities are not equally informative."""
    draw = np.random.default_rng(0)
    n = 360
    label = draw.integers(0, 3, n)
    means = draw.normal(size=(3, 3, 6))
    arrays = {
        name: (scale * means[k][label] + draw.normal(size=(n, 6))).astype(np.float32)
        for k, (name, scale) in enumerate(zip(NAMES, (2.0, 0.7, 0.3), strict=True))
    }
    split = np.array(["test", "val", "train", "train", "train"])[np.arange(n) % 5]
    path = tmp_path_factory.mktemp("features") / "three.npz"
    np.savez(path, label=label, split=split, group=np.arange(n) % 9, **arrays)
    return path


@pytest.fixture(scope="module")
def run(features, tmp_path_factory) -> Path:
    """A run folder after prepare, warmup, analyze-gap and adapt."""
    folder = tmp_path_factory.mktemp("three")
    store, run = folder / "store", folder / "run"
    for line in (
        ("prepare", "features", features, "--modalities", ",".join(NAMES), "-o", store),
        ("warmup", store, "-o", run, *TRAINING),
        ("analyze-gap", run / "warmup.pt", "--plot"),
        ("adapt", run / "warmup.pt"),
    ):
        done = mgap(*line)
        assert done.code == 0, done.err
    return run


def test_the_gap_is_the_mean_over_the_pairs(run):
    rows = list(csv.DictReader((run / "gap-warmup.csv").open()))
    assert len(rows) == 216
    for row in rows:
        p = [float(row[f"p_{name}"]) for name in NAMES]
        expected = np.mean([abs(a - b) for a, b in combinations(p, 2)])
        assert float(row["gap"]) == pytest.approx(expected, abs=2e-6)
    assert (run / "gap-warmup.png").read_bytes().startswith(b"\x89PNG")


def test_the_tables_name_every_modality_and_every_pair(run):
    done = mgap("analyze-gap", run / "warmup.pt")
    assert done.code == 0, done.err
    for a, b in combinations(NAMES, 2):
        assert f"{a}-{b}" in done.out
    assert all(f"{name} leads %" in done.out for name in NAMES)
    assert max(map(len, done.out.splitlines())) <= 80


def test_adapting_reports_every_head(run):
    epochs = metrics(run, "adapt")
    assert len(epochs) == 3
    assert all({*NAMES, "fused"} <= set(entry["val"]) for entry in epochs)
    assert all(entry["mixture"]["kind"] == "absolute" for entry in epochs)


def test_evaluation_and_robustness_have_every_modality(run):
    done = mgap("evaluate", run / "warmup.pt", run / "adapt.pt", "--robustness", "--plot", "--json")
    assert done.code == 0, done.err
    for evaluation in done.json()["evaluations"]:
        assert set(evaluation["heads"]) == {"fused", *NAMES}
        missing = {row["corruption"] for row in evaluation["robustness"] if row["fill"]}
        assert missing == {f"{name} missing" for name in NAMES}
    table = mgap("evaluate", run / "warmup.pt", run / "adapt.pt").out
    assert max(map(len, table.splitlines())) <= 80


def test_the_report_has_the_run(run):
    done = mgap("report", run)
    assert done.code == 0, done.err
    page = (run / "report.html").read_text()
    assert all(re.search(rf"\b{name}\b", page) for name in NAMES)


def test_signed_gaps_take_two_modalities(run):
    mgap("analyze-gap", run / "warmup.pt", "--gap-kind", "signed").fails(2, "two modalities")


def test_real_features_of_three_modalities(shared_data, tmp_path):
    store = tmp_path / "store"
    done = mgap("prepare", "features", shared_data / "mosi_features.npz", "-o", store)
    assert done.code == 0, done.err
    done = mgap("train", store, "--method", "adaptive", "-o", tmp_path / "run", *TRAINING)
    assert done.code == 0, done.err
    done = mgap("analyze-gap", tmp_path / "run" / "adapt.pt")
    assert done.code == 0 and "audio-text" in done.out, done.err
