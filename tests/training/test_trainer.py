"""The effect of settings on the training loop, seen in its results."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.program import TINY, assert_same_checkpoint, metrics, mgap, sets, status, tensors
from helpers.stores import made, many

from mgap_cli.data.store import open_store
from mgap_cli.output import Output


def losing_no_sample(evaluation: dict, store, split: str) -> bool:
    return evaluation["n"] == len(open_store(store).indices(split))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--schedule", "step", *sets("train.step_size=2", "train.gamma=0.5")], [1, 1, 0.5, 0.5, 0.25]),
        (
            ["--schedule", "cosine", *sets("train.epochs=12")],  # over the budget, not over the stage
            [(1 + math.cos(math.pi * e / 12)) / 2 for e in range(5)],
        ),
        (["--schedule", "constant"], [1, 1, 1, 1, 1]),
    ],
)
def test_the_learning_rate_follows_its_schedule(store, tmp_path, more, expected):
    done = mgap("warmup", store, "-o", tmp_path, *sets(*TINY), "--epochs", 5, "--lr", 0.01, *more)
    assert done.code == 0, done.err
    rates = [entry["lr"] for entry in metrics(tmp_path)]
    np.testing.assert_allclose(rates, [0.01 * factor for factor in expected], rtol=1e-6)
    # The optimizer used it: the rate in the checkpoint is that of the next epoch.
    saved = torch.load(tmp_path / "warmup-last.pt", weights_only=True)["loop"]["optimizers"]["all"]
    assert saved["lr"] == saved["schedule"]["_last_lr"][0]


def test_the_checkpoint_is_the_epoch_that_is_best_on_validation(store, tmp_path):
    line = ["warmup", store, "-o", tmp_path, *sets(*TINY), "--epochs", 8, "--lr", 0.02]
    assert mgap(*line).code == 0
    rank = [(e["val"]["fused"], -e["val"]["loss"]) for e in metrics(tmp_path)]
    best = rank.index(max(rank)) + 1
    kept = torch.load(tmp_path / "warmup.pt", weights_only=True)
    assert kept["epoch"] == best and kept["selected"] == {"on": "val", "epoch": best}
    # Its weights are those of that epoch and not of the last: their validation scores are equal.
    document = mgap("evaluate", tmp_path / "warmup.pt", "--split", "val", "--json").json()
    fused = document["evaluations"][0]["heads"]["fused"]
    assert fused["accuracy"] == pytest.approx(rank[best - 1][0])


def test_select_last_and_select_test(store, tmp_path):
    last, test = tmp_path / "last", tmp_path / "test"
    assert mgap("warmup", store, "-o", last, *sets(*TINY), "--select", "last").code == 0
    assert torch.load(last / "warmup.pt", weights_only=True)["epoch"] == 3
    assert all("test" not in e for e in metrics(last))
    assert mgap("warmup", store, "-o", test, *sets(*TINY), "--select", "test").code == 0
    rank = [(e["test"]["fused"], -e["test"]["loss"]) for e in metrics(test)]
    assert torch.load(test / "warmup.pt", weights_only=True)["epoch"] == rank.index(max(rank)) + 1
    tables = mgap("evaluate", test / "warmup.pt", last / "warmup.pt", env={"COLUMNS": "200"}).out
    assert tables.count("selected on test") >= 1
    names = [
        e["name"]
        for e in mgap("evaluate", test / "warmup.pt", last / "warmup.pt", "--json").json()["evaluations"]
    ]
    assert "selected on test" in names[0] and "selected on test" not in names[1]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_every_sample_of_a_split_is_evaluated(store, run, split):
    line = ["evaluate", run / "warmup.pt", "--split", split, "--json", *sets("runtime.eval_batch_size=7")]
    assert losing_no_sample(mgap(*line).json()["evaluations"][0], store, split)


def test_the_adaptive_loss_without_its_coefficients_is_joint_heads(finished, tmp_path):
    zero = ["--alpha", 0, "--beta", 0, "--lambda-gap", 0, "--lambda-shift", 0]
    line = ["adapt", finished / "warmup.pt", "--epochs", 3]
    assert mgap(*line, "-o", tmp_path / "zero", *zero).code == 0
    assert mgap(*line, "-o", tmp_path / "heads", "--method", "joint-heads").code == 0
    assert_same_checkpoint(tmp_path / "zero/adapt.pt", tmp_path / "heads/adapt.pt", ".model.network")
    # With them it is another loss.
    assert mgap(*line, "-o", tmp_path / "one").code == 0
    with pytest.raises(AssertionError):
        assert_same_checkpoint(tmp_path / "one/adapt.pt", tmp_path / "heads/adapt.pt", ".model.network")


BUDGET = ["--select", "last", *sets("train.epochs=6")]


def modulated(run: Path, stage: str) -> list[bool]:
    return [entry["modulated"] for entry in metrics(run, stage)]


def test_ogm_outside_its_window_is_joint_and_the_window_is_a_part_of_the_whole_budget(store, tmp_path):
    for name, more in {
        "joint": ["--method", "joint"],
        "late": ["--method", "ogm-ge", *sets("ogm-ge.start=0.5", "ogm-ge.end=0.6")],
        "early": ["--method", "ogm-ge", *sets("ogm-ge.end=0.4")],
    }.items():
        line = ["warmup", store, "-o", tmp_path / name, *sets(*TINY), *BUDGET, "--epochs", 3, *more]
        assert mgap(*line).code == 0
    # The warm-up is the first half of the budget.
    assert modulated(tmp_path / "late", "warmup") == [False] * 3
    assert_same_checkpoint(tmp_path / "late/warmup.pt", tmp_path / "joint/warmup.pt", ".model")
    assert_same_checkpoint(tmp_path / "late/warmup.pt", tmp_path / "joint/warmup.pt", ".loop")
    assert modulated(tmp_path / "early", "warmup") == [True] * 3
    with pytest.raises(AssertionError):
        assert_same_checkpoint(tmp_path / "early/warmup.pt", tmp_path / "joint/warmup.pt", ".model.network")
    # The second stage is the other half; there the window is the same part of the whole.
    for name, method in (("early", "ogm-ge"), ("plain", "joint"), ("late", "ogm-ge")):
        warm = tmp_path / ("late" if name == "late" else "early") / "warmup.pt"
        line = ["adapt", warm, "-o", tmp_path / f"adapt-{name}", "--method", method]
        assert mgap(*line).code == 0
    assert modulated(tmp_path / "adapt-early", "adapt") == [False] * 3
    assert_same_checkpoint(tmp_path / "adapt-early/adapt.pt", tmp_path / "adapt-plain/adapt.pt", ".model")
    assert modulated(tmp_path / "adapt-late", "adapt") == [True, False, False]


def test_a_window_that_ends_before_it_starts_is_an_error(store, tmp_path):
    line = ["warmup", store, "-o", tmp_path / "run", *sets(*TINY), "--method", "ogm"]
    mgap(*line, *sets("ogm.start=0.6")).fails(2, "ogm.start is 0.6 and ogm.end is 0.5", "--method joint")
    mgap(*line, *sets("ogm.end=1.5")).fails(2, "ogm.end is 1.5", "at most 1")
    assert not (tmp_path / "run").exists()


def test_a_run_with_another_window_is_not_continued(store, tmp_path):
    line = ["warmup", store, "-o", tmp_path, *sets(*TINY), "--method", "ogm-ge"]
    assert mgap(*line, "--epochs", 1, *sets("ogm-ge.end=1")).code == 0
    mgap(*line, "--epochs", 1).fails(2, "ogm-ge.end=1.0 (this command asks for 0.5)")
    assert mgap(*line, "--epochs", 1, *sets("ogm-ge.end=1")).code == 0
    document = mgap("adapt", tmp_path / "warmup.pt", "--dry-run", "--json").json()
    assert document["config"]["ogm-ge"]["end"] == 1.0


@pytest.mark.parametrize("method", ["adaptive", "joint-heads"])
def test_only_balanced_trains_on_exactly_the_balanced_samples(run, tmp_path, monkeypatch, method):
    from mgap_cli.config import resolve
    from mgap_cli.training.trainer import Trainer
    from mgap_cli.workflow.stages import execute, open_for_adapt, plan_adapt

    assert mgap("analyze-gap", run / "warmup.pt").code == 0
    with (run / "gap-warmup.csv").open() as file:
        balanced = {row["id"] for row in csv.DictReader(file) if float(row["posterior"]) < 0.5}
    assert 0 < len(balanced) < len(metrics(run)) * 1000

    trained: list[int] = []
    step = Trainer._train_step

    def spy(self, batch):
        trained.extend(batch.index.tolist())
        step(self, batch)

    monkeypatch.setattr(Trainer, "_train_step", spy)
    parent, store = open_for_adapt(run / "warmup.pt", None)
    flags = {"adapt.only": "balanced", "adapt.epochs": 2, "adapt.method": method}
    config = resolve(parent.config, flags=flags)
    execute(plan_adapt(run / "warmup.pt", parent, store, config, tmp_path / "pure"), Output(quiet=True))
    assert sorted(trained) == sorted(2 * [i for i, name in enumerate(store.ids) if name in balanced])


def test_a_threshold_that_leaves_too_few_samples_is_an_error(finished, tmp_path):
    line = ["adapt", finished / "warmup.pt", "-o", tmp_path / "r", "--only", "balanced"]
    mgap(*line, "--threshold", 1e-12).fails(2, "fewer than two samples", "--threshold")


def test_a_single_training_sample_is_an_error(tmp_path):
    store = made(many(clips=9, classes=1, groups=9), tmp_path / "store")
    shutil.copytree(store, lone := tmp_path / "lone")
    table = (store / "clips.csv").read_text()
    (lone / "clips.csv").write_text(table.replace(",train,", ",test,", table.count(",train,") - 1))
    line = ["warmup", lone, "-o", tmp_path / "run", *sets(*TINY), "--select", "last"]
    mgap(*line).fails(3, "1 sample to train on")
    assert not (tmp_path / "run").exists()


def spoilt_store(store: Path, folder: Path, split: str) -> Path:
    """Copy a store, with NaN for the sound of a split."""
    shutil.copytree(store, folder)
    audio = np.load(folder / "audio.npy", mmap_mode="r+")
    audio[open_store(folder).indices(split)] = np.nan
    return folder


def test_predictions_that_are_not_finite_stop_training(store, tmp_path):
    run = tmp_path / "run"
    spoilt = spoilt_store(store, tmp_path / "spoilt", "val")
    done = mgap("warmup", spoilt, "-o", run, *sets(*TINY))
    done.fails(1, "it diverged: predictions are not finite (epoch 1", "--lr")
    assert json.loads((run / "status.json").read_text())["state"] == "failed"
    assert not (run / "warmup.pt").exists() and not list(run.glob(".*.tmp"))
    for line in (run / "metrics.jsonl").read_text().splitlines() if (run / "metrics.jsonl").exists() else []:
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_ten_bad_steps_in_a_row_stop_training(store, tmp_path):
    spoilt = spoilt_store(store, tmp_path / "spoilt", "train")
    line = ["warmup", spoilt, "-o", tmp_path / "run", *sets(*TINY, "train.batch_size=4")]
    mgap(*line).fails(1, "the loss is nan for 10 steps in a row", "epoch 1, step 10", "lr 0.003", "--lr")
    assert not (tmp_path / "run/warmup.pt").exists() and status(tmp_path / "run")["state"] == "failed"


def test_a_seed_decides_the_weights(store, finished, tmp_path):
    line = ["warmup", store, *sets(*TINY), "--epochs", 1]
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert mgap(*line, "-o", tmp_path / name, "--seed", seed).code == 0
    assert_same_checkpoint(tmp_path / "a/warmup.pt", tmp_path / "b/warmup.pt")
    a, c = (tensors(tmp_path / n / "warmup.pt")[".model.network.heads.audio.weight"] for n in "ac")
    assert not torch.equal(a, c)


@pytest.mark.parametrize("fusion", ["sum", "film", "gated"])
def test_every_fusion_trains_adapts_and_is_evaluated(store, tmp_path, fusion):
    done = mgap("warmup", store, "-o", tmp_path, *sets(*TINY), "--epochs", 1, "--fusion", fusion)
    assert done.code == 0, done.err
    assert mgap("adapt", tmp_path / "warmup.pt", "--epochs", 1).code == 0
    assert mgap("evaluate", tmp_path / "adapt.pt").code == 0


@pytest.mark.parametrize("modality", ["audio", "visual"])
def test_a_unimodal_run_is_evaluated_on_its_own_head(store, tmp_path, modality):
    method = ["--method", "unimodal", *sets(f"unimodal.modality={modality}")]
    line = ["warmup", store, "-o", tmp_path, *sets(*TINY), "--epochs", 1, *method]
    assert mgap(*line).code == 0
    evaluation = mgap("evaluate", tmp_path / "warmup.pt", "--json").json()["evaluations"][0]
    assert list(evaluation["heads"]) == [modality]


@pytest.mark.parametrize("heads", [("fused",), ("fused", "audio", "visual"), tuple("abcdefghij")])
def test_epoch_lines_fit_a_terminal(heads):
    from mgap_cli.training.trainer import _epoch_lines

    accuracies = dict.fromkeys(heads, 1.0)
    entry = {
        "stage": "warmup", "epoch": 100, "lr": 1.2e-5, "train": {"loss": 12.3456},
        "val": accuracies, "test": accuracies,
    }  # fmt: skip
    lines = _epoch_lines(entry, 100, 12345.6)
    assert max(map(len, lines)) <= 80
    text = " ".join(line.strip() for line in lines)
    listed = ", ".join(f"{head} 100.0%" for head in heads)
    assert text == (
        f"warmup epoch 100/100; loss 12.346; val {listed}; test {listed}; lr 1.2e-05; 12346 samples/s"
    )


def test_adapt_says_that_its_loss_has_another_formula(store, tmp_path):
    small = sets(*TINY)
    first = mgap("warmup", store, "-o", tmp_path, *small, "--epochs", 1)
    assert first.code == 0 and "another formula" not in first.err
    then = mgap("adapt", tmp_path / "warmup.pt", *small, "--epochs", 1)
    assert then.code == 0, then.err
    assert "the loss of adaptive has another formula than that of joint-heads" in then.err
