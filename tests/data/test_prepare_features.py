"""Stores of a user's own features: their content, refused files, and training on three modalities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.program import mgap, sets

from mgap_cli.config import DataConfig
from mgap_cli.data.prepare.build import build_store
from mgap_cli.data.sources import load_dataset
from mgap_cli.data.store import open_store
from mgap_cli.errors import MgapError
from mgap_cli.output import Output

N = 60


def content(**changes):
    draw = np.random.default_rng(0)
    label = np.arange(N) % 3
    made = {
        "label": label,
        "classes": np.array(["a", "b", "c"]),
        "group": np.array([f"g{i // 4}" for i in range(N)]),
        "age": np.arange(N),
        "touch": draw.normal(size=(N, 7)) + label[:, None],
        "motion": draw.normal(size=(N, 6, 4)).astype(np.float16),
        "motion_length": 1 + np.arange(N) % 6,
        "text": draw.normal(size=(N, 5)).astype(np.float32),
    }
    return {name: value for name, value in {**made, **changes}.items() if value is not None}


def saved(folder, **changes):
    np.savez(folder / "mine.npz", **content(**changes))
    return folder / "mine.npz"


def test_the_store_has_the_arrays_and_columns_of_the_file(tmp_path):
    config = DataConfig()
    dataset = load_dataset("features", saved(tmp_path), config)
    store = build_store(dataset, config, tmp_path / "s", Output(quiet=True))
    given = content()
    assert [(m.name, m.kind, m.channels) for m in store.modalities] == [
        ("touch", "features", 7), ("motion", "sequence", 4), ("text", "features", 5),
    ]  # fmt: skip
    np.testing.assert_array_equal(store.arrays["touch"], given["touch"].astype(np.float32))
    for row, length in enumerate(given["motion_length"]):
        kept = store.arrays["motion"][row]
        np.testing.assert_array_equal(kept[:length], given["motion"][row, :length])
        assert np.isnan(kept[length:]).all()
    assert store.columns["age"] == [str(i) for i in range(N)]
    np.testing.assert_array_equal(store.labels, given["label"])
    assert {*store.splits} == {"train", "val", "test"}
    by_group = {(g, s) for g, s in zip(given["group"], store.splits, strict=True)}
    assert len(by_group) == len({*given["group"]}), "a group is in one split"


def test_the_same_file_again_is_the_same_store_and_another_is_refused(tmp_path):
    line = ["prepare", "features", saved(tmp_path), "-o", tmp_path / "s"]
    assert mgap(*line).code == 0
    before = open_store(tmp_path / "s").fingerprint
    assert "finished already" in mgap(*line).err
    mgap(*line, "--modalities", "touch,text").fails(3, "--force")
    assert mgap(*line, "--modalities", "touch,text", "--force").code == 0
    assert open_store(tmp_path / "s").fingerprint != before
    assert mgap("inspect", tmp_path / "s", "--verify").code == 0
    mgap("inspect", tmp_path / "s", "--plot").fails(2, "this store has neither")
    (tmp_path / "s" / "text.npy").write_bytes(b"x")
    mgap("inspect", tmp_path / "s").fails(3, "damaged store")


@pytest.mark.parametrize(
    ("changes", "asked", "words"),
    [
        ({"label": None}, [], "no array `label`"),
        ({"text": np.zeros((N - 1, 5))}, [], "text has shape"),
        ({"text": np.full((N, 5), np.nan)}, [], "text has NaN"),
        ({"touch": np.full((N, 7), 1e300)}, [], "touch has NaN or infinite"),
        ({"touch": None, "motion": None}, [], "1 modalities"),
        ({}, ["touch", "txt"], "no array 'txt'"),
        ({"split": np.array(["dev"] * N)}, [], "split 'dev'"),
        ({"motion_length": np.zeros(N, int)}, [], "motion_length"),
        ({"id": np.array(["same"] * N)}, [], "'same'"),
        ({"label": np.full(N, 7)}, [], "label 7"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_message(tmp_path, changes, asked, words):
    with pytest.raises(MgapError, match=words) as caught:
        load_dataset("features", saved(tmp_path, **changes), DataConfig(), modalities=asked)
    assert caught.value.exit_code in (2, 3) and "\n" not in caught.value.message


def test_three_modalities_train(tmp_path):
    assert mgap("prepare", "features", saved(tmp_path), "-o", tmp_path / "s").code == 0
    small = sets("train.epochs=3", "train.batch_size=16", "warmup.epochs=1", "model.hidden=8")
    for command in (["train", tmp_path / "s", "--method", "joint-heads"], ["warmup", tmp_path / "s"]):
        done = mgap(*command, "-o", tmp_path / str(command[0]), *small)
        assert done.code == 0, done.err
        content = torch.load(tmp_path / command[0] / f"{command[0]}.pt", weights_only=True)
        assert [m["name"] for m in content["modalities"]] == ["touch", "motion", "text"]
        assert content["heads"] == ["fused", "touch", "motion", "text"]


@pytest.mark.parametrize(("name", "count"), [("ravdess_features", 2), ("mosi_features", 3)])
def test_real_files_make_stores(shared_data, tmp_path, name, count):
    config = DataConfig()
    dataset = load_dataset("features", shared_data / f"{name}.npz", config)
    store = build_store(dataset, config, tmp_path / "s", Output(quiet=True))
    assert len(store.modalities) == count and len(store) in (1424, 2199)
