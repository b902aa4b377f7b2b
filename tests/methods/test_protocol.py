"""The method protocol with users' methods: each is one file, which the command line trains."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
from helpers.methods import EXAMPLE_CLASSES, EXAMPLES, example
from helpers.program import TINY, assert_same_checkpoint, metrics, mgap, sets, start

from mgap_cli.runs.checkpoint import load_checkpoint

EPOCHS = 4


def line(name: str, store: Path, run: Path, teacher: Path) -> list[object]:
    """Return the command that trains an example."""
    settings = sets(f"frozen-teacher.teacher={teacher}") if name == "frozen_teacher" else []
    return ["train", store, "--method", example(name), "-o", run, *sets(*TINY), "--epochs", EPOCHS, *settings]


@pytest.mark.parametrize("name", EXAMPLE_CLASSES)
def test_trains_and_resumes_bit_for_bit(store, finished, tmp_path, name):
    whole, run = tmp_path / "whole", tmp_path / "run"
    done = mgap(*line(name, store, whole, finished / "warmup.pt"))
    assert done.code == 0 and done.out == f"{whole / 'train.pt'}\n", done.err
    losses = [entry["train"]["loss"] for entry in metrics(whole, "train")]
    assert len(losses) == EPOCHS and losses[-1] < losses[0]

    running = start(*line(name, store, run, finished / "warmup.pt"), *sets("runtime.save_every=1e-9"))
    assert running.until(lambda: len(metrics(run, "train")) >= 2)
    running.send(signal.SIGKILL)
    assert running.wait().code == -signal.SIGKILL
    resumed = mgap(*line(name, store, run, finished / "warmup.pt"))
    assert resumed.code == 0 and "continues from epoch" in resumed.err, resumed.err
    for part in (".model", ".loop.optimizers", ".history", ".selected"):
        assert_same_checkpoint(whole / "train-last.pt", run / "train-last.pt", part)


def test_own_parameters_are_trained_and_saved(store, finished, tmp_path):
    assert mgap(*line("learned_weights", store, tmp_path, finished / "warmup.pt")).code == 0
    model = load_checkpoint(tmp_path / "train-last.pt").model
    learned = {k: v for k, v in model.items() if k.startswith("method.log_variance.")}
    assert len(learned) == 3 and all(bool(v != 0) for v in learned.values())


def test_each_group_has_its_own_optimizer_saved_by_parameter_name(store, finished, tmp_path):
    assert mgap(*line("alternating", store, tmp_path, finished / "warmup.pt")).code == 0
    optimizers = load_checkpoint(tmp_path / "train-last.pt").loop["optimizers"]
    assert set(optimizers) == {"audio", "visual", "fusion"}
    assert set(optimizers["fusion"]["memory"]) == {
        "network.fusion.linear.weight",
        "network.fusion.linear.bias",
    }
    audio = optimizers["audio"]["memory"]
    assert all(name.startswith(("network.encoders.audio.", "network.heads.audio.")) for name in audio)


def test_a_teacher_stays_as_it_was(store, finished, tmp_path):
    assert mgap(*line("frozen_teacher", store, tmp_path, finished / "warmup.pt")).code == 0
    model = load_checkpoint(tmp_path / "train-last.pt").model
    before = load_checkpoint(finished / "warmup.pt").model
    for name, tensor in before.items():
        if name.startswith("network."):
            assert torch.equal(tensor, model[name.replace("network.", "method.teacher.", 1)])


def test_a_missing_or_changed_file_is_one_clear_message(store, finished, tmp_path):
    text = (EXAMPLES / "restarted.py").read_text()
    (tmp_path / "mine.py").write_text(text)
    command = ["train", store, "--method", f"{tmp_path / 'mine.py'}:Restarted", "-o", tmp_path / "run"]
    assert mgap(*command, *sets(*TINY), "--epochs", 2).code == 0
    evaluate = ["evaluate", tmp_path / "run" / "train.pt"]
    assert mgap(*evaluate).code == 0
    (tmp_path / "mine.py").write_text(text + "# changed\n")
    mgap(*evaluate).fails(3, "another version of", "mine.py")
    (tmp_path / "mine.py").unlink()
    mgap(*evaluate).fails(3, "mine.py", "does not exist any more")


@pytest.mark.parametrize(
    "content, problem",
    [
        ("class Other: pass\n", "no class Mine that is a method"),
        ("class Mine(:\n", "cannot be loaded (SyntaxError"),
        ("raise RuntimeError('first\\nsecond')\n", "cannot be loaded (RuntimeError: first second)"),
        ("from mgap_cli.methods.joint import Joint\nclass Mine(Joint): name = 'joint'\n", "empty or taken"),
    ],
)
def test_a_file_without_a_method_is_refused(store, tmp_path, content, problem):
    (tmp_path / "mine.py").write_text(content)
    mgap("train", store, "--method", f"{tmp_path / 'mine.py'}:Mine", "-o", tmp_path / "run").fails(2, problem)


def test_no_file_and_no_method(store, tmp_path):
    mgap("train", store, "--method", "nowhere.py:Mine", "-o", tmp_path / "run").fails(2, "nowhere.py")
    mgap("train", store, "--method", "magic", "-o", tmp_path / "run").fails(
        2, "unknown method 'magic'", "joint"
    )
