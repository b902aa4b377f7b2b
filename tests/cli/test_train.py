"""`mgap train` gives a method the whole budget; `mgap warmup` warns if it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.program import TINY, assert_same_checkpoint, listing, metrics, mgap, sets, start, status

from mgap_cli.config import Config
from mgap_cli.methods import load_method, names
from mgap_cli.runs.checkpoint import load_checkpoint

BUDGET = 5
SETTINGS = sets(*TINY, f"train.epochs={BUDGET}", "warmup.epochs=2", "adapt.epochs=0")
CONFIG = Config().updated({"unimodal.modality": "visual"}, "this test")
WHOLE_BUDGET = [n for n in names() if len(load_method(n).recipe(CONFIG, ("audio", "visual"))) == 1]


def line(store: Path, run: Path, method: str) -> list[object]:
    settings = sets("unimodal.modality=visual") if method == "unimodal" else []
    return ["train", store, "--method", method, "-o", run, *SETTINGS, *settings]


@pytest.mark.parametrize("method", WHOLE_BUDGET)
def test_a_method_gets_the_whole_budget(store, tmp_path, method):
    done = mgap(*line(store, tmp_path / "run", method))
    assert done.code == 0 and done.out == f"{tmp_path / 'run' / 'train.pt'}\n", done.err
    assert "warning:" not in done.err
    assert [entry["epoch"] for entry in metrics(tmp_path / "run", "train")] == list(range(1, BUDGET + 1))
    last = load_checkpoint(tmp_path / "run" / "train-last.pt")
    assert (last.stage, last.method, last.spent) == ("train", method, BUDGET)
    assert status(tmp_path / "run") == {"state": "done", "stage": "train", "epoch": BUDGET, "step": 0}


def test_the_modulation_window_spans_the_budget(store, tmp_path):
    assert mgap(*line(store, tmp_path, "ogm-ge")).code == 0
    modulated = [entry["modulated"] for entry in metrics(tmp_path, "train")]
    assert modulated == [True, True, True, False, False]  # e / 5 <= 0.5


def test_adaptive_is_a_warm_up_and_an_adaptation(store, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    done = mgap(*line(store, one, "adaptive"))
    assert done.code == 0 and done.out == f"{one / 'adapt.pt'}\n", done.err
    assert mgap("warmup", store, "-o", two, *SETTINGS).code == 0
    assert mgap("adapt", two / "warmup.pt").code == 0
    for name in ("warmup.pt", "adapt.pt"):
        assert_same_checkpoint(one / name, two / name)
        assert load_checkpoint(one / name).config == load_checkpoint(two / name).config
    assert len(metrics(one, "warmup")) == 2 and len(metrics(one, "adapt")) == BUDGET - 2


@pytest.mark.parametrize("method", ["joint", "adaptive"])
def test_a_finished_training_returns_at_once(store, tmp_path, method):
    first = mgap(*line(store, tmp_path / "run", method))
    assert first.code == 0, first.err
    before = listing(tmp_path / "run")
    again = mgap(*line(store, tmp_path / "run", method))
    assert again.code == 0 and again.out == first.out
    assert "already finished" in again.err and " epoch 1/" not in again.err
    after = listing(tmp_path / "run")
    assert {name for name in before if before[name] != after[name]} <= {"status.json"}
    assert before.keys() == after.keys()


def test_a_stopped_training_continues_in_its_second_stage(store, tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert mgap(*line(store, whole, "adaptive")).code == 0
    running = start(*line(store, run, "adaptive"), pause=(2, 1))  # the warm-up has two epochs
    running.until_paused()
    assert status(run)["stage"] == "adapt"
    running.process.terminate()
    stopped = running.wait()
    assert stopped.code == 75, stopped.err
    again = mgap(*line(store, run, "adaptive"))
    assert again.code == 0 and "warmup: already finished" in again.err
    assert "adapt: continues from epoch 2, step 2" in again.err
    assert_same_checkpoint(whole / "adapt.pt", run / "adapt.pt", ".model")


def test_streams_and_json(store, tmp_path):
    done = mgap(*line(store, tmp_path / "run", "joint"), "--json", "--quiet")
    document = done.json()
    assert document["schema"] == "mgap.train/1" and document["path"] == str(tmp_path / "run" / "train.pt")
    assert document["run"] == str(tmp_path / "run") and done.err == ""


def test_the_budget_is_an_option_and_a_trained_run_is_not_replaced(store, tmp_path):
    short = [*line(store, tmp_path, "joint"), "--epochs", 1]
    assert mgap(*short).code == 0
    assert len(metrics(tmp_path, "train")) == 1
    mgap(*line(store, tmp_path, "joint")).fails(2, "train.epochs", "--force")
    mgap(*short, "--lr", 0.5).fails(2, "train.lr", "0.5", "--force")
    done = mgap(*line(store, tmp_path, "joint"), "--force")
    assert done.code == 0 and len(metrics(tmp_path, "train")) == BUDGET


def test_a_trained_checkpoint_is_evaluated_analysed_and_reported(store, tmp_path):
    assert mgap(*line(store, tmp_path / "run", "joint")).code == 0
    checkpoint = tmp_path / "run" / "train.pt"
    judged = mgap("evaluate", checkpoint, "--json").json()["evaluations"]
    assert [(e["stage"], e["method"]) for e in judged] == [("train", "joint")]
    assert mgap("analyze-gap", checkpoint).code == 0 and (tmp_path / "run" / "gap-train.csv").exists()
    reported = mgap("report", tmp_path / "run")
    assert reported.code == 0, reported.err


def test_a_method_is_required_and_must_exist(store, tmp_path):
    mgap("train", store, "-o", tmp_path / "run").fails(2, "--method")
    mgap("train", store, "-o", tmp_path / "run", "--method", "ogm_ge").fails(2, "ogm_ge", "ogm-ge")
    mgap("train", store, "-o", tmp_path / "run", "--method", "unimodal").fails(
        2, "unimodal.modality", "audio"
    )
    assert not (tmp_path / "run").exists()


def test_warmup_warns_that_it_trains_a_part_of_the_budget(store, tmp_path):
    done = mgap("warmup", store, "-o", tmp_path / "run", *SETTINGS, "--method", "ogm-ge", "--quiet")
    assert done.code == 0 and len(metrics(tmp_path / "run")) == 2
    (warning,) = done.err.splitlines()
    assert warning.startswith("warning: ")
    assert "warmup.epochs=2" in warning and f"train.epochs={BUDGET}" in warning
    assert "mgap train" in warning and "--method ogm-ge" in warning


@pytest.mark.parametrize(
    "words", [[], ["--method", "joint-heads"], ["--method", "joint", "--epochs", BUDGET]]
)
def test_warmup_does_not_warn_of_the_default_method_nor_of_a_whole_budget(store, tmp_path, words):
    done = mgap("warmup", store, "-o", tmp_path / "run", *SETTINGS, *words, "--dry-run")
    assert done.code == 0 and "warning:" not in done.err
