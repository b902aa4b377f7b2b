"""A run folder has one writer at a time, and no output of a command replaces a file that must stay."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import stat
from pathlib import Path

import pytest
from helpers.program import TINY, listing, mgap, sets, start, status

from mgap_cli.errors import MgapError
from mgap_cli.files import atomic_write, sweep_temporaries
from mgap_cli.output import Output
from mgap_cli.runs.layout import LOCK_NAME
from mgap_cli.runs.lock import run_lock

TRAIN = sets(*TINY)
FAST = sets("analysis.resamples=19", "gap.n_init=1", "evaluate.bootstrap=50")


# --- one writer


def test_a_second_writer_is_refused_at_once_and_sees_who_writes(store, run):
    evaluation = sets("evaluate.bootstrap=50")
    lines = [
        ("warmup", store, "-o", run, *TRAIN),
        ("adapt", run / "warmup.pt"),
        ("run", store, "-o", run, *TRAIN),
        ("analyze-gap", run / "warmup.pt", *FAST),
        ("analyze-gap", run / "warmup.pt", run / "adapt.pt", *FAST),
        ("evaluate", run / "warmup.pt", *evaluation),
    ]
    with run_lock(run, Output()):
        before = listing(run)
        for line in lines:
            other = mgap(*line)
            other.fails(1, str(run), f"process {os.getpid()} on {platform.node()} since ", "Wait")
        assert listing(run) == before
        # Those that only look at a run are not refused.
        done = mgap("report", run, "-o", run / "page.html", "--store", run / "none")
        assert done.code == 0, done.err
        assert mgap("analyze-gap", run, "--history").code == 0
    assert mgap("evaluate", run / "warmup.pt", *evaluation).code == 0
    assert not (run / LOCK_NAME).exists()


def test_two_runs_in_one_folder_and_a_kill(store, tmp_path):
    """The first run continues; the files that a kill leaves do not prevent another run and are deleted."""
    run = tmp_path / "run"
    line = ["warmup", store, "-o", run, *TRAIN, "--epochs", 30]
    first = start(*line)
    assert first.until(lambda: (run / "warmup-last.pt").exists())
    mgap(*line, "--seed", 9, "--force").fails(1, f"process {first.pid} on", "mgap warmup")
    first.send(signal.SIGKILL)
    assert first.wait().code == -signal.SIGKILL
    assert json.loads((run / LOCK_NAME).read_text())["pid"] == first.pid
    left = run / ".warmup-last.pt.0123abcd.tmp"
    left.write_bytes(b"half a checkpoint")
    again = mgap(*line)
    assert again.code == 0 and "continues from epoch" in again.err, again.err
    assert status(run)["state"] == "done" and not left.exists() and not (run / LOCK_NAME).exists()


def test_a_lock_is_taken_once_and_leaves_nothing(tmp_path):
    run = tmp_path / "a" / "b"
    with run_lock(run, Output()), run_lock(run, Output()):
        assert [p.name for p in run.iterdir()] == [LOCK_NAME]
    assert not (tmp_path / "a").exists()
    with pytest.raises(RuntimeError), run_lock(run, Output()):
        (run / "kept").touch()
        raise RuntimeError
    assert [p.name for p in run.iterdir()] == ["kept"]


@pytest.mark.parametrize("file_type", ["link", "folder"])
def test_something_else_in_the_place_of_the_lock_is_left_alone(tmp_path, file_type):
    mine = tmp_path / "mine"
    mine.write_text("text")
    lock = tmp_path / LOCK_NAME
    lock.symlink_to(mine) if file_type == "link" else lock.mkdir()
    with pytest.raises(MgapError, match="cannot be written"), run_lock(tmp_path, Output()):
        pass
    assert mine.read_text() == "text" and (lock.is_symlink() or lock.is_dir())


def test_only_temporary_files_of_dead_processes_are_deleted(tmp_path):
    foreign = [tmp_path / name for name in (".notes.tmp", "x.0123abcd.tmp", ".x.0123abcd.tmp.bak")]
    for path in [*foreign, tmp_path / ".x.pt.0123abcd.tmp"]:
        path.touch()
    with atomic_write(tmp_path / "result") as file:
        sweep_temporaries(tmp_path)
        file.write(b"whole")
    assert {p.name for p in tmp_path.iterdir()} == {"result", *(p.name for p in foreign)}
    assert (tmp_path / "result").read_bytes() == b"whole"


# --- which folder may become a run folder


def test_a_run_needs_a_folder_of_its_own(store, run, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "config.yaml").write_text("train: {lr: 0.01}\n")
    before = listing(mine)
    for line in (
        ("warmup", store, "-o", mine, "--config", mine / "config.yaml"),
        ("warmup", store, "-o", mine, "--dry-run"),
        ("run", store, "-o", mine),
        ("run", "digits", "-o", mine),
        ("adapt", run / "warmup.pt", "-o", mine),
    ):
        mgap(*line).fails(2, str(mine), "not a run folder", "config.yaml", "-o")
    mgap("warmup", store, "-o", store).fails(2, "it is a store")
    assert listing(mine) == before


def test_folders_that_may_become_run_folders(store, run, tmp_path):
    """An empty folder, one with hidden files, and one whose last status.json is incomplete."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden/.gitignore").touch()
    copied = tmp_path / "copied"
    copied.mkdir()
    shutil.copy(run / "warmup.pt", copied)
    for folder in ("empty", "hidden"):
        assert mgap("warmup", store, "-o", tmp_path / folder, *TRAIN, "--dry-run").code == 0
    assert mgap("adapt", copied / "warmup.pt", "--dry-run").code == 0
    (run / "status.json").write_text("{")
    assert mgap("adapt", run / "warmup.pt", "--dry-run").code == 0


# --- outputs


def test_outputs_never_replace_what_must_stay(store, run, tmp_path):
    own_store = Path(shutil.copytree(store, tmp_path / "store"))
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    link = tmp_path / "link.csv"
    link.symlink_to(run / "adapt.pt")
    config = tmp_path / "my.yaml"
    config.write_text("gap: {n_init: 1}\n")
    scores = tmp_path / "scores.csv"
    scores.write_text("id,label,p_audio,p_visual\na,x,0.1,0.9\n")
    warm, one = run / "warmup.pt", tmp_path / "one.csv"
    (own_store / "sheet.png").write_bytes(b"mine")
    before = {k: v for k, v in listing(tmp_path).items() if k != "fifo"}
    cases: list[tuple[list[object], str]] = [
        (["analyze-gap", warm, "--csv", warm], "also uses"),
        (["analyze-gap", warm, "--export", warm], "also uses"),
        (["analyze-gap", warm, "--csv", run / "adapt-last.pt"], "it is a checkpoint"),
        (["analyze-gap", warm, "--csv", link], "it is a checkpoint"),
        (["analyze-gap", warm, "--csv", own_store / "clips.csv"], "into the store"),
        (["analyze-gap", warm, "--export", own_store / "frames.npy"], "into the store"),
        (["analyze-gap", warm, "--csv", run / "metrics.jsonl"], "record of the run folder"),
        (["analyze-gap", warm, "--config", config, "--csv", config], "also uses"),
        (["analyze-gap", warm, "--csv", one, "--export", one], "also uses"),
        (["analyze-gap", warm, run / "adapt.pt", "--csv", run / "adapt.pt"], "also uses"),
        (["analyze-gap", warm, "--csv", fifo], "a device, a pipe"),
        (["analyze-gap", warm, "--csv", "/dev/null"], "a device, a pipe"),
        (["analyze-gap", warm, "--csv", ""], "the value is empty"),
        (["analyze-gap", scores, "--csv", scores], "also uses"),
        (["analyze-gap", scores, "--export", tmp_path], "a folder"),
        (["report", run, "-o", warm], "also uses"),
        (["report", run, "-o", run / "config.yaml"], "also uses"),
        (["report", run, "-o", fifo], "a device, a pipe"),
        (["inspect", own_store, "-o", own_store / "sheet.png", "--plot"], "into the store"),
        (["adapt", run / "adapt.pt", "--force"], "the checkpoint that it starts from"),
        (["adapt", run / "adapt-last.pt", "--force"], "the checkpoint that it starts from"),
    ]
    for line, words in cases:
        mgap(*line).fails(2, words)
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert {k: v for k, v in listing(tmp_path).items() if k != "fifo"} == before


def test_a_link_is_followed(run, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link, target = tmp_path / "table.csv", tmp_path / "elsewhere" / "table.csv"
    link.symlink_to(target)  # to a file that does not exist yet
    for _ in range(2):
        done = mgap("analyze-gap", run / "warmup.pt", "--csv", link, *FAST)
        assert done.code == 0, done.err
        assert link.is_symlink() and target.read_text().startswith("id,label,")
    (run / "gap-adapt.json").symlink_to(run / "warmup-last.pt")
    before = (run / "warmup-last.pt").read_bytes()
    mgap("analyze-gap", run / "adapt.pt", *FAST).fails(2, "gap-adapt.json", "it is a checkpoint")
    assert (run / "warmup-last.pt").read_bytes() == before


# --- names


def test_each_checkpoint_has_its_own_files(run):
    assert mgap("analyze-gap", run / "warmup.pt", "--plot", *FAST).code == 0
    first = {path: path.read_bytes() for path in run.glob("gap-warmup.*")}
    assert {path.suffix for path in first} == {".csv", ".json", ".png"}
    assert mgap("analyze-gap", run / "adapt.pt", "--plot", *FAST).code == 0
    assert {path: path.read_bytes() for path in first} == first
    assert {path.suffix for path in run.glob("gap-adapt.*")} == {".csv", ".json", ".png"}
    assert Path(json.loads((run / "gap-adapt.json").read_text())["checkpoint"]).name == "adapt.pt"


def test_evaluating_all_checkpoints_of_a_folder(run):
    """A shell expands *.pt to adapt-last.pt before adapt.pt: the chosen epoch is evaluated."""
    given = sorted(run.glob("*.pt"))
    assert [path.name for path in given] == ["adapt-last.pt", "adapt.pt", "warmup-last.pt", "warmup.pt"]
    fast = sets("evaluate.bootstrap=50")
    done = mgap("evaluate", *given, "--json", *fast)
    assert done.code == 0, done.err
    assert [e["name"] for e in done.json()["evaluations"]] == ["run/adapt", "run/warmup"]
    assert done.err.count("left out") == 2 and "adapt-last.pt: adapt.pt is given too" in done.err
    alone = mgap("evaluate", run / "adapt-last.pt", "--json", *fast)
    assert [e["name"] for e in alone.json()["evaluations"]] == ["run/adapt-last"]
