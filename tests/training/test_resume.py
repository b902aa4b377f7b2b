"""A run that is killed at any moment and started again ends with the weights of an uninterrupted run."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.program import TINY, Running, assert_same_checkpoint, listing, metrics, mgap, sets, start, status

EPOCHS = 6


def warmup_line(store: Path, run: Path, *more: str) -> list[object]:
    return ["warmup", store, "-o", run, *sets(*TINY), "--epochs", EPOCHS, *more]


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory) -> Path:
    """The run without interruption."""
    run = tmp_path_factory.mktemp("whole")
    assert mgap(*warmup_line(store, run)).code == 0
    return run


def assert_same_run(a: Path, b: Path, stage: str = "warmup") -> None:
    """Assert that a stage wrote the same weights, state and metrics, and no other files."""
    for name in (f"{stage}.pt", f"{stage}-last.pt"):
        assert_same_checkpoint(a / name, b / name)
    assert (a / f"{stage}.pt").read_bytes() == (b / f"{stage}.pt").read_bytes()

    def figures(run: Path) -> list[dict]:
        timed = ("seconds", "samples_per_second")
        return [{k: v for k, v in e.items() if k not in timed} for e in metrics(run, stage)]

    assert figures(a) == figures(b)
    assert status(a) == status(b) and status(a)["state"] == "done"
    assert listing(a).keys() == {n for n in listing(b) if not n.endswith(".tmp")}


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "while saving": lambda run: len(metrics(run)) >= 3 and bool(list(run.glob(".warmup-last.pt.*.tmp"))),
    "while saving the best": lambda run: bool(list(run.glob(".warmup-best.pt.*.tmp"))),
    "near the end": lambda run: len(metrics(run)) >= EPOCHS,
}


@pytest.mark.parametrize("at", [(0, 3), (1, 0), pytest.param((5, 6), marks=pytest.mark.slow)])
def test_killed_at_a_step_and_resumed(whole, store, tmp_path, at):
    run = tmp_path / "run"
    running = start(*warmup_line(store, run), pause=at)
    running.until_paused()
    running.send(signal.SIGKILL)
    assert running.wait().code == -signal.SIGKILL
    assert mgap(*warmup_line(store, run)).code == 0
    assert_same_run(whole, run)


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_a_moment_and_resumed(whole, store, tmp_path, moment):
    """The run may end before the kill; its result is the same."""
    run = tmp_path / "run"
    running = start(*warmup_line(store, run))
    running.until(lambda: MOMENTS[moment](run))
    running.send(signal.SIGKILL)
    assert running.wait().code in (-signal.SIGKILL, 0)
    resumed = mgap(*warmup_line(store, run))
    assert resumed.code == 0 and resumed.out == f"{run / 'warmup.pt'}\n"
    assert_same_run(whole, run)


@pytest.mark.parametrize(
    "more",
    [
        ["--method", "ogm-ge", "--optimizer", "sgd", "--schedule", "step", "--clip-norm", "1"],
        ["--method", "joint", "--select", "last"],
    ],
    ids=["ogm-ge", "joint"],
)
def test_killed_and_resumed_with_other_settings(store, tmp_path, more):
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert mgap(*warmup_line(store, whole, *more)).code == 0
    running = start(*warmup_line(store, run, *more), pause=(5, 2))
    running.until_paused()
    running.send(signal.SIGKILL)
    assert running.wait().code == -signal.SIGKILL
    assert mgap(*warmup_line(store, run, *more)).code == 0
    assert_same_run(whole, run)


def test_ogm_ge_killed_in_its_window_at_its_end_and_after_it(store, tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    # The window is epochs 0 to 3 of 6. A save after each step makes each resumption start within an epoch.
    more = ["--method", "ogm-ge", *sets(f"train.epochs={EPOCHS}", "runtime.save_every=1e-9")]
    assert mgap(*warmup_line(store, whole, *more)).code == 0
    assert [e["modulated"] for e in metrics(whole)] == [True] * 4 + [False] * 2
    for moment in (2, 3, 4, 5):
        running = start(*warmup_line(store, run, *more), pause=(moment, 2))
        running.until_paused()
        running.send(signal.SIGKILL)
        assert running.wait().code == -signal.SIGKILL
    assert mgap(*warmup_line(store, run, *more)).code == 0
    assert_same_run(whole, run)


@pytest.mark.parametrize("more", [[], ["--scores", "online", "--refit-every", "2"], ["--only", "balanced"]])
def test_adapt_killed_and_resumed(finished, tmp_path, more):
    whole, run = tmp_path / "whole", tmp_path / "run"

    def line(folder: Path) -> list[object]:
        return ["adapt", finished / "warmup.pt", "-o", folder, "--epochs", 6, *more]

    assert mgap(*line(whole)).code == 0
    running = start(*line(run), pause=(3, 2))
    running.until_paused()
    running.send(signal.SIGKILL)
    assert running.wait().code == -signal.SIGKILL
    assert mgap(*line(run)).code == 0
    assert_same_run(whole, run, "adapt")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_in_the_middle_of_an_epoch(whole, store, tmp_path, number):
    run = tmp_path / "run"
    preempted(start(*warmup_line(store, run), pause=(4, 2)), run, number, (4, 3))
    again = preempted(
        start(*warmup_line(store, run), pause=(5, 0)), run, number, (5, 1)
    )  # and twice in one run
    assert "continues from epoch" in again
    resumed = mgap(*warmup_line(store, run))
    assert resumed.code == 0
    assert_same_run(whole, run)


def test_a_signal_stops_adapt(finished, tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"

    def line(folder: Path) -> list[object]:
        return ["adapt", finished / "warmup.pt", "-o", folder, "--epochs", 6, "--scores", "online"]

    assert mgap(*line(whole)).code == 0
    preempted(start(*line(run), pause=(3, 2)), run, signal.SIGTERM, (3, 3), "adapt")
    assert mgap(*line(run)).code == 0
    assert_same_run(whole, run, "adapt")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_last_step_of_a_stage_stops_before_the_next(store, tmp_path, number):
    whole, run = tmp_path / "whole", tmp_path / "run"

    def line(folder: Path) -> list[object]:
        settings = sets(*TINY, "warmup.epochs=2")
        return ["train", store, "--method", "adaptive", "-o", folder, *settings, "--epochs", 3]

    assert mgap(*line(whole)).code == 0
    steps = json.loads(mgap(*line(run), "--dry-run", "--json").out)["steps_per_epoch"]
    running = start(*line(run), pause=(1, steps - 1))
    running.until_paused()
    running.send(number)
    by_user = number == signal.SIGINT
    name, state = ("Ctrl-C", "interrupted") if by_user else ("SIGTERM", "preempted")
    running.wait().fails(
        130 if by_user else 75, f"stopped by {name} after the last step of warmup", "Run the same command"
    )
    assert status(run) == {"state": state, "stage": "warmup", "epoch": 2, "step": 0}
    assert_same_checkpoint(whole / "warmup.pt", run / "warmup.pt")
    assert not list(run.glob("adapt*"))
    assert mgap(*line(run)).code == 0
    assert_same_run(whole, run, "adapt")


def preempted(running: Running, run: Path, number: int, saved: tuple[int, int], stage: str = "warmup") -> str:
    """Send a signal at the pause; assert that the run ends with this epoch and step; return stderr."""
    running.until_paused()
    running.send(number)
    done = running.wait()
    done.fails(75, f"stopped by {signal.Signals(number).name}", "Run the same command again")
    assert status(run)["state"] == "preempted" and status(run)["stage"] == stage
    assert (status(run)["epoch"], status(run)["step"]) == saved
    assert not (run / f"{stage}.pt").exists() and not list(run.glob(".*.tmp"))
    return done.err


def test_resuming_needs_no_more_than_the_last_checkpoint_and_the_best(whole, store, tmp_path):
    """Metrics and status are for readers; resuming works without them."""
    run = tmp_path / "run"
    running = start(*warmup_line(store, run), pause=(4, 2))
    running.until_paused()
    running.send(signal.SIGKILL)
    running.wait()
    for name in ("metrics.jsonl", "status.json", "env.json", "config.yaml"):
        (run / name).unlink(missing_ok=True)
    assert mgap(*warmup_line(store, run)).code == 0
    assert_same_checkpoint(whole / "warmup.pt", run / "warmup.pt")


def test_ctrl_c_saves_within_the_epoch(whole, store, tmp_path):
    run = tmp_path / "run"
    running = start(*warmup_line(store, run), pause=(2, 2))
    running.until_paused()
    running.send(signal.SIGINT)
    done = running.wait()
    done.fails(130, "stopped by Ctrl-C at epoch 3, step 3", "Run the same command again")
    assert status(run) == {"state": "interrupted", "stage": "warmup", "epoch": 2, "step": 3}
    assert torch.load(run / "warmup-last.pt", weights_only=True)["step"] == 3
    assert not list(run.glob(".*.tmp"))
    resumed = mgap(*warmup_line(store, run))
    assert resumed.code == 0 and "continues from epoch 2, step 3" in resumed.err
    assert_same_run(whole, run)


def stop_saving_by_ctrl_c() -> None:
    """Send a second Ctrl-C to this process when it begins to save within an epoch."""
    from mgap_cli.training.trainer import Trainer

    plain = Trainer._save

    def save(trainer: Trainer) -> None:
        if trainer.step:
            signal.raise_signal(signal.SIGINT)
        plain(trainer)

    Trainer._save = save  # type: ignore[method-assign]


def test_a_second_ctrl_c_stops_without_saving(whole, store, tmp_path):
    run = tmp_path / "run"
    running = start(*warmup_line(store, run), pause=(2, 2), before=stop_saving_by_ctrl_c)
    running.until_paused()
    running.send(signal.SIGINT)
    done = running.wait()
    done.fails(130, "interrupted")
    assert status(run)["state"] == "interrupted"
    assert torch.load(run / "warmup-last.pt", weights_only=True)["step"] == 0, "as the epoch before left it"
    assert mgap(*warmup_line(store, run)).code == 0
    assert_same_run(whole, run)


def ignore_ctrl_c() -> None:
    """Ignore SIGINT, as a shell does for the background jobs of a script."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def test_an_ignored_ctrl_c_stays_ignored(store, tmp_path):
    run = tmp_path / "run"
    running = start(*warmup_line(store, run), before=ignore_ctrl_c)
    running.until(lambda: len(metrics(run)) >= 2)
    running.send(signal.SIGINT)
    assert running.wait().code == 0 and status(run)["state"] == "done"


@pytest.mark.parametrize("stage", ["warmup", "adapt"])
def test_killed_within_an_epoch_that_is_saved_on_its_way(store, finished, tmp_path, stage):
    """`save_every` is wall time, here after each step: it only decides how much a kill loses."""

    def line(run: Path, minutes: float) -> list[object]:
        begin = ["warmup", store] if stage == "warmup" else ["adapt", finished / "warmup.pt"]
        settings = sets(*TINY, "train.batch_size=3") if stage == "warmup" else sets("train.batch_size=3")
        return [*begin, "-o", run, *settings, *sets(f"runtime.save_every={minutes}"), "--epochs", 2]

    whole, run = tmp_path / "whole", tmp_path / "run"
    assert mgap(*line(whole, 0)).code == 0
    running = start(*line(run, 1e-9), pause=(0, 5))  # after step 5, which is not saved, as 0 to 4 are
    running.until_paused()
    running.send(signal.SIGKILL)
    assert running.wait().code == -signal.SIGKILL
    assert not metrics(run, stage)
    assert torch.load(run / f"{stage}-last.pt", weights_only=True)["step"] == 5
    resumed = mgap(*line(run, 1e-9))
    assert resumed.code == 0 and "continues from epoch 0, step 5" in resumed.err
    for name in (f"{stage}.pt", f"{stage}-last.pt"):
        for part in (".model", ".loop", ".history", ".selected"):
            assert_same_checkpoint(whole / name, run / name, part)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("stage", ["warmup", "adapt"])
def test_stopped_at_thirty_random_moments(whole, store, finished, tmp_path, stage, number):
    """Each attempt is stopped after a random time, so that stops occur in every part of the program. A save
    after each step lets many attempts begin within an epoch.
    """

    def line(run: Path) -> list[object]:
        often = sets("runtime.save_every=1e-9")
        if stage == "warmup":
            return [*warmup_line(store, run), *often]
        return ["adapt", finished / "warmup.pt", "-o", run, "--epochs", EPOCHS, *often]

    undisturbed = tmp_path / "undisturbed"
    begin = time.monotonic()
    assert mgap(*line(undisturbed)).code == 0
    usual = time.monotonic() - begin
    draw, stops, within, trial = random.Random(0), 0, 0, 0
    while stops < 30:
        trial += 1
        run = tmp_path / f"run{trial}"
        for _ in range(6):
            running = start(*line(run))
            end = time.monotonic() + draw.uniform(0.05, usual)
            running.until(lambda end=end: time.monotonic() > end)
            running.send(number)
            done = running.wait()
            within += "continues from epoch" in done.err and ", step 0" not in done.err
            if done.code == 0:
                break
            # 75 once training has begun; before that a signal ends the program at once, with nothing to save.
            assert done.code in (-number, 75), done.err
            assert done.code != 75 or status(run)["state"] == "preempted"
            stops += 1
        assert mgap(*line(run)).code == 0
        assert_same_run(undisturbed, run, stage)
        shutil.rmtree(run)
    assert within >= 5
