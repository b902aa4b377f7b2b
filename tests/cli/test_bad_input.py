"""For any wrong input, the user gets one clear message and the right exit code, and no incomplete file."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.program import TINY, listing, mgap, sets, start, status

TRAIN = sets(*TINY)


def damaged_store(store: Path, folder: Path) -> Path:
    return Path(shutil.copytree(store, folder / "damaged"))


# --- stores


@pytest.mark.parametrize("command", ["warmup", "run"])
def test_no_store(tmp_path, command):
    code = 3 if command == "warmup" else 2  # for `run`, this name is neither a store nor a data set
    mgap(command, tmp_path / "none", "-o", tmp_path / "run", *TRAIN).fails(code, str(tmp_path / "none"))
    assert not listing(tmp_path)


def test_a_folder_that_is_not_a_store(tmp_path):
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday/photo.txt").write_text("sea")
    before = listing(tmp_path)
    mgap("warmup", tmp_path / "holiday", "-o", tmp_path / "run").fails(3, "no store.json", "mgap prepare")
    mgap("warmup", tmp_path / "holiday/photo.txt", "-o", tmp_path / "run").fails(3, "not a store")
    assert listing(tmp_path) == before


def test_an_unfinished_store(store, tmp_path):
    broken = damaged_store(store, tmp_path)
    (broken / "store.json").unlink()
    before = listing(tmp_path)
    mgap("warmup", broken, "-o", tmp_path / "run").fails(3, "not a finished store", "mgap prepare")
    assert listing(tmp_path) == before


@pytest.mark.parametrize("name", ["frames.npy", "audio.npy", "clips.csv", "store.json"])
@pytest.mark.parametrize("how", ["gone", "empty", "half", "garbage"])
def test_a_damaged_store(store, tmp_path, name, how):
    file = damaged_store(store, tmp_path) / name
    if how == "gone":
        file.unlink()
    else:
        content = file.read_bytes()
        file.write_bytes(
            {"empty": b"", "half": content[: len(content) // 2], "garbage": b"\xff\x00" * 99}[how]
        )
    before = listing(tmp_path)
    mgap("warmup", file.parent, "-o", tmp_path / "run", *TRAIN).fails(3, str(file.parent))
    assert listing(tmp_path) == before


@pytest.mark.parametrize("command", ["analyze-gap", "adapt", "evaluate"])
def test_another_data_set(run, other_store, command):
    before = listing(run)
    mgap(command, run / "warmup.pt", "--store", other_store).fails(3, "another data set", "--store")
    assert listing(run) == before


def test_a_store_that_was_moved(store, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(store, here)
    assert mgap("warmup", here, "-o", tmp_path / "run", *TRAIN, "--epochs", 1).code == 0
    here.rename(there)
    checkpoint = tmp_path / "run/warmup.pt"
    for command in ("analyze-gap", "adapt", "evaluate"):
        mgap(command, checkpoint).fails(3, str(here), "--store")
    assert mgap("evaluate", checkpoint, "--store", there).code == 0


def test_no_validation_split(store, tmp_path):
    data = damaged_store(store, tmp_path)
    clips = data / "clips.csv"
    clips.write_text(clips.read_text().replace(",val,", ",train,"))
    line = ["warmup", data, "-o", tmp_path / "run", *TRAIN, "--epochs", 1]
    before = listing(tmp_path)
    mgap(*line).fails(2, "no val split", "--select last")
    assert listing(tmp_path) == before
    assert mgap(*line, "--select", "last").code == 0
    assert mgap("analyze-gap", tmp_path / "run/warmup.pt").code == 0
    assert mgap("adapt", tmp_path / "run/warmup.pt", "--epochs", 1).code == 0
    mgap("evaluate", tmp_path / "run/warmup.pt", "--split", "val").fails(3, "val")


# --- checkpoints

COMMANDS = "analyze-gap", "adapt", "evaluate"


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


def test_no_checkpoint(tmp_path):
    for command in COMMANDS:
        mgap(command, tmp_path / "none.pt").fails(3, "no such checkpoint")
    mgap("evaluate", tmp_path).fails(3, "no checkpoint of a finished stage")
    assert not listing(tmp_path)


@pytest.mark.parametrize("share", [0, 1e-3, 0.3, 0.9, 0.999])
def test_a_checkpoint_that_was_cut_short(run, share):
    whole = (run / "warmup.pt").read_bytes()
    (run / "warmup.pt").write_bytes(whole[: int(len(whole) * share)])
    before = listing(run)
    for command in COMMANDS:
        mgap(command, run / "warmup.pt").fails(3, "warmup.pt", "mgap warmup")
    assert listing(run) == before


def test_a_checkpoint_with_flipped_bytes(run):
    content = bytearray((run / "warmup.pt").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (run / "warmup.pt").write_bytes(content)
    mgap("evaluate", run / "warmup.pt").fails(3, "damaged")


def hostile(defect: str, path: Path, witness: Path, checkpoint: Path) -> None:
    """Write something that is not a checkpoint of ours."""
    content = torch.load(checkpoint, weights_only=True)
    if defect == "bomb":
        torch.save({**content, "history": Bomb(witness)}, path)
    elif defect == "old bomb":
        torch.save({**content, "history": Bomb(witness)}, path, _use_new_zipfile_serialization=False)
    elif defect == "bare bomb":
        path.write_bytes(pickle.dumps(Bomb(witness)))
    elif defect == "numpy":
        torch.save({**content, "history": np.float64(1)}, path)
    elif defect == "numpy array":
        torch.save({**content, "history": np.ones(3)}, path)
    elif defect == "state dict":
        torch.save(content["model"], path)
    elif defect == "tensor":
        torch.save(torch.ones(2), path)
    elif defect == "lacking":
        del content["classes"]
        torch.save(content, path)
    elif defect == "newer":
        torch.save({**content, "version": 99}, path)
    elif defect == "misfit":
        content["model"]["network.heads.audio.weight"] = torch.ones(3, 3)
        torch.save(content, path)
    elif defect == "wrong types":
        torch.save({**content, "config": 7, "store": [], "classes": None}, path)
    elif defect == "zip":
        shutil.make_archive(str(path.with_suffix("")), "zip", checkpoint.parent.parent / "bin")
        path.with_suffix(".zip").rename(path)
    else:
        path.write_text("a shopping list\n")


DEFECTS = [
    *("bomb", "old bomb", "bare bomb", "numpy", "numpy array", "state dict", "tensor", "lacking", "newer"),
    *("misfit", "wrong types", "zip", "text"),
]


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_file_that_is_not_a_checkpoint(finished, tmp_path, defect):
    (tmp_path / "in").mkdir()
    path, witness = tmp_path / "in" / "x.pt", tmp_path / "witness"
    (finished.parent / "bin").mkdir(exist_ok=True)
    hostile(defect, path, witness, finished / "warmup.pt")
    before = listing(tmp_path)
    for command in COMMANDS:
        mgap(command, path).fails(3, "x.pt")
    assert listing(tmp_path) == before and not witness.exists()


def test_a_last_checkpoint_that_is_damaged(store, tmp_path):
    """This is the checkpoint from which training resumes."""
    run = tmp_path / "run"
    running = start("warmup", store, "-o", run, *TRAIN, "--epochs", 50, pause=(1, 0))
    running.until_paused()
    running.send(signal.SIGKILL)
    running.wait()
    (run / "warmup-last.pt").write_bytes((run / "warmup-last.pt").read_bytes()[:1000])
    line = ["warmup", store, "-o", run, *TRAIN, "--epochs", 50]
    mgap(*line).fails(3, "warmup-last.pt")
    content = torch.load(run / "warmup-best.pt", weights_only=True)
    for damage in ({"loop": {}}, {"model": {}}, {"loop": {**content["loop"], "optimizers": {}}}):
        torch.save({**content, **damage}, run / "warmup-last.pt")
        mgap(*line).fails(3, "warmup-last.pt", "--force")


def test_a_network_of_nans(run):
    content = torch.load(run / "warmup.pt", weights_only=True)
    content["model"]["network.heads.audio.weight"].fill_(torch.nan)
    torch.save(content, run / "warmup.pt")
    before = listing(run)
    mgap("analyze-gap", run / "warmup.pt").fails(3, "audio scores are NaN", " of ")
    mgap("adapt", run / "warmup.pt", "-o", run / "new").fails(3, "audio scores are NaN")
    done = mgap("evaluate", run / "warmup.pt")
    done.fails(3, "NaN")
    left = {name for name in listing(run) if not name.startswith("new")}
    assert left == set(before)


def test_a_unimodal_checkpoint(store, tmp_path):
    line = ["warmup", store, "-o", tmp_path, *TRAIN, "--epochs", 1, "--method", "unimodal"]
    line += sets("unimodal.modality=audio")
    assert mgap(*line).code == 0
    before = listing(tmp_path)
    mgap("analyze-gap", tmp_path / "warmup.pt").fails(
        2, "trained with unimodal", "the visual branch untrained", "joint-heads"
    )
    mgap("adapt", tmp_path / "warmup.pt").fails(3, "one branch only", "mgap warmup")
    assert listing(tmp_path) == before


# --- usage

USAGE = {
    "method": (["--method", "magic"], "magic"),
    "adaptive warm-up": (["--method", "adaptive"], "mgap adapt"),
    "device": (["--device", "abacus"], "abacus"),
    "setting": (["--set", "train.learning_rate=1"], "train.learning_rate"),
    "misspelt setting": (["--set", "train.momentun=1"], "Did you mean train.momentum?"),
    "no value": (["--set", "train.lr"], "section.key=value"),
    "wrong type": (["--set", "train.batch_size=many"], "train.batch_size"),
    "out of range": (["--set", "train.batch_size=0"], "train.batch_size"),
    "not a number": (["--set", "train.lr=.nan"], "train.lr"),
    "no config file": (["--config", "none.yaml"], "none.yaml"),
    "decomposed": (["--set", "model.unimodal=decomposed", "--fusion", "film"], "--fusion concat or "),
    "weights": (["--set", "model.audio_weights=none.pth"], "none.pth"),
}


@pytest.mark.parametrize("case", USAGE)
def test_wrong_usage(store, tmp_path, case):
    words, said = USAGE[case]
    expected = 3 if case == "weights" else 2
    mgap("warmup", store, "-o", tmp_path / "run", *TRAIN, *words).fails(expected, said)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--precision", "fp7"],
        ["--fusion", "soup"],
        ["--select", "train"],
        ["--epochs", "many"],
        ["--no-such-option"],
        ["--epochs", "0"],
        ["--lr", "nan"],
    ],
)
def test_wrong_options(store, tmp_path, words):
    done = mgap("warmup", store, "-o", tmp_path / "run", *TRAIN, *words)
    assert done.code == 2 and done.out == "" and "Traceback" not in done.err
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="has CUDA")
def test_a_missing_cuda_device_is_an_error(store, run, tmp_path):
    line = ["warmup", store, "-o", tmp_path / "new", *TRAIN, "--device", "cuda"]
    mgap(*line).fails(2, "--device cuda", "cpu")
    mgap(*line, "--dry-run").fails(2, "--device cuda")
    mgap("warmup", store, "-o", tmp_path / "new", *TRAIN, "--precision", "fp16").fails(2, "fp16", "CUDA")
    for command in COMMANDS:
        mgap(
            command, run / "warmup.pt", "--device", "cuda:3", *(["--force"] if command == "adapt" else [])
        ).fails(2, "--device cuda:3")
    assert not (tmp_path / "new").exists()


def test_half_of_a_launchers_environment(store, tmp_path):
    line = ["warmup", store, "-o", tmp_path / "run", *TRAIN]
    mgap(*line, env={"WORLD_SIZE": "2"}).fails(2, "WORLD_SIZE is 2", "RANK is not set", "torchrun")
    mgap(*line, env={"WORLD_SIZE": "two"}).fails(2, "WORLD_SIZE is two", "torchrun")
    whole = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_PORT": "1"}
    mgap(*line, env=whole).fails(2, "MASTER_ADDR is not set")
    whole = {**whole, "MASTER_ADDR": "localhost", "RANK": "2"}
    mgap(*line, env=whole).fails(2, "RANK is 2", "torchrun")
    assert not (tmp_path / "run").exists()


def test_an_unknown_split(run):
    before = listing(run)
    mgap("analyze-gap", run / "warmup.pt", "--split", "dev").fails(3, "dev", "train, val, test")
    mgap("evaluate", run / "warmup.pt", "--split", "dev").fails(3, "dev", "train, val, test")
    assert listing(run) == before


def test_the_network_cannot_change_in_adapt(run):
    mgap("adapt", run / "warmup.pt", *sets("model.width=8")).fails(2, "model.width", "mgap warmup")


def test_environment_with_an_unknown_setting(store, tmp_path):
    line = ["warmup", store, "-o", tmp_path / "run", *TRAIN]
    mgap(*line, env={"MGAP_TRAIN__LEARNINGRATE": "1"}).fails(2, "train.learningrate")
    mgap(*line, env={"MGAP_TRAIN__LR": "[1"}).fails(2, "TRAIN__LR")


# --- the machine


def test_a_run_folder_that_is_a_file(store, tmp_path):
    (tmp_path / "run").write_text("mine")
    mgap("warmup", store, "-o", tmp_path / "run", *TRAIN).fails(1, "cannot be written")
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_run_folder_that_may_not_be_written(store, tmp_path):
    (tmp_path / "run").mkdir(mode=0o555)
    mgap("warmup", store, "-o", tmp_path / "run", *TRAIN).fails(1, "cannot be written")
    assert not listing(tmp_path / "run")


@pytest.mark.skipif(not Path("/dev/full").exists() or sys.platform != "linux", reason="no /dev/full")
def test_a_full_disk_below_stdout(run, tmp_path):
    """The result cannot be printed: the command fails without a traceback."""
    import subprocess

    from helpers.program import shim

    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [shim(tmp_path) / "mgap", "evaluate", run / "warmup.pt", "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "internal error" not in done.stderr


def test_ctrl_c(store, tmp_path):
    run = tmp_path / "run"
    running = start("run", store, "-o", run, *TRAIN, *sets("warmup.epochs=200"), pause=(1, 0))
    running.until_paused()
    running.send(signal.SIGINT)
    done = running.wait()
    assert done.code == 130 and done.out == ""
    assert "error: stopped by Ctrl-C at epoch 2, step 1; saved " in done.err
    assert status(run)["state"] == "interrupted" and not list(run.glob(".*.tmp"))


def test_debug_shows_the_traceback(tmp_path):
    assert "Traceback" in mgap("--debug", "warmup", tmp_path / "none").err
    assert "Traceback" in mgap("warmup", tmp_path / "none", env={"MGAP_DEBUG": "1"}).err
    assert "Traceback" not in mgap("warmup", tmp_path / "none", env={"MGAP_DEBUG": "0"}).err


def test_incomplete_metrics(run):
    (run / "metrics.jsonl").write_text('{"stage": "warm')
    line = ["adapt", run / "warmup.pt", "--epochs", 1, "--force"]
    mgap(*line).fails(3, "metrics.jsonl", "line 1", "Move it away")
    (run / "metrics.jsonl").unlink()
    assert mgap(*line).code == 0
