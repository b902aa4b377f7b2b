"""The number of threads is chosen once, with a reason; a run keeps it, because its bits depend on it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from helpers.program import TINY, assert_same_checkpoint, mgap, sets, start

from mgap_cli import cores
from mgap_cli.config import RuntimeConfig
from mgap_cli.cores import busy_between, free_cores, usable_cores
from mgap_cli.errors import UsageError
from mgap_cli.output import Output
from mgap_cli.training import threads
from mgap_cli.training.device import choose_scoring_device
from mgap_cli.training.threads import choose_threads

UNSET = {"OMP_NUM_THREADS": ""}
FOUR = "threads: 4 (auto: 4 usable cores, 0.0 of them busy)"


def idle_machine() -> None:
    """Pretend that this process may use four cores, and that all are idle."""
    threads.usable_cores, threads.free_cores = (lambda: 4), (lambda: 4.0)  # type: ignore[assignment]


def busy_machine() -> None:
    """Pretend that this process may use four cores, and that other processes keep all of them busy."""
    threads.usable_cores, threads.free_cores = (lambda: 4), (lambda: 0.1)  # type: ignore[assignment]


def line(store: Path, run: Path, *more: object) -> list[object]:
    return ["warmup", store, "-o", run, *sets(*TINY), "--epochs", 3, *more]


def environment(run: Path) -> dict:
    return json.loads((run / "env.json").read_text())


def kept(path: Path) -> int:
    return torch.load(path, weights_only=True)["loop"]["threads"]


def test_a_killed_run_continues_with_its_number_on_a_busy_machine(store, tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    first = mgap(*line(store, whole), env=UNSET, before=idle_machine)
    assert FOUR in first.err and environment(whole)["threads"] == kept(whole / "warmup.pt") == 4
    running = start(*line(store, run), env=UNSET, before=idle_machine, pause=(1, 2))
    running.until_paused()
    running.send(signal.SIGKILL)
    running.wait()
    (run / "env.json").unlink()
    resumed = mgap(*line(store, run), env=UNSET, before=busy_machine)
    assert "threads: 4 (auto: as many as the run began with)" in resumed.err
    assert environment(run)["threads"] == 4 and "began" in environment(run)["threads_reason"]
    for name in ("warmup.pt", "warmup-last.pt"):
        assert_same_checkpoint(whole / name, run / name)
    # The next stage in the folder has the same number; another run does not.
    adapted = mgap("adapt", run, "--epochs", 1, env=UNSET, before=busy_machine)
    assert "threads: 4 (auto: as many" in adapted.err and kept(run / "adapt.pt") == 4
    other = mgap("adapt", run, "--epochs", 1, "-o", tmp_path / "other", env=UNSET, before=busy_machine)
    assert "threads: 1 (auto: 4 usable cores, 3.9 of them busy)" in other.err


def test_an_explicit_number_and_the_variable(store, tmp_path):
    env = {"OMP_NUM_THREADS": "2,1"}
    by_variable = mgap(*line(store, tmp_path / "a"), env=env, before=busy_machine)
    assert "threads: 2 (auto: the value of OMP_NUM_THREADS)" in by_variable.err
    asked = mgap(*line(store, tmp_path / "b", "--threads", 3), env=env, before=busy_machine)
    assert "threads: 3 (as asked)" in asked.err and environment(tmp_path / "b")["threads"] == 3
    for wrong in ("0", "-1", "many", "1e3", "5000"):
        mgap(*line(store, tmp_path / "c", "--threads", wrong)).fails(2, f"--threads {wrong}", "Use auto")
    assert not (tmp_path / "c" / "warmup-last.pt").exists()


@pytest.mark.parametrize(
    ("free", "sharing", "number"),
    [(8.0, 1, 8), (7.6, 1, 8), (7.4, 1, 7), (0.0, 1, 1), (0.4, 1, 1), (8.0, 4, 2), (2.0, 4, 1)],
)
def test_the_usable_cores_less_what_is_busy(monkeypatch, free, sharing, number):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "usable_cores", lambda: 8)
    monkeypatch.setattr(threads, "free_cores", lambda: free)
    monkeypatch.setattr(threads.processes, "local_size", lambda: sharing)
    assert choose_threads("auto").number == number


@pytest.mark.parametrize("nonsense", [0, -3, 10**9, "4", None, 2.0, True])
def test_a_number_that_no_run_began_with_does_not_count(monkeypatch, nonsense):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert choose_threads("auto", nonsense).number == 1


def test_a_run_from_a_larger_machine_takes_the_cores_that_are_there(monkeypatch):
    monkeypatch.setattr(threads, "usable_cores", lambda: 4)
    chosen = choose_threads("auto", 64)
    assert chosen.number == 4 and "began with 64" in chosen.reason and "may differ" in chosen.reason
    assert choose_threads("64", 64).number == 64
    assert "began with 2" in choose_threads("3", 2).reason
    with pytest.raises(UsageError, match="not a number of threads"):
        choose_threads("")


def test_busy_cores_are_counted_from_the_kernels_clock():
    before = (
        "cpu  9 9 9 9 9 9 9 9\ncpu0 10 0 0 100 0 0 0 0 0 0\ncpu1 5 0 5 50 0 0 0 0\ncpu2 0 0 0 0 0 0 0 0\n"
    )
    after = (
        "cpu  9 9 9 9 9 9 9 9\ncpu0 40 0 0 100 0 0 0 0 0 0\ncpu1 10 0 5 60 5 0 0 0\ncpu2 0 0 0 0 0 0 0 0\n"
    )
    assert busy_between(before, after, {0}) == 1
    assert busy_between(before, after, {1}) == pytest.approx(0.25)
    assert busy_between(before, after, {0, 1, 2, 7}) == pytest.approx(1.25)
    with pytest.raises(ValueError):
        busy_between("cpu0 a b\n", "cpu0 a b\n", {0})


def test_the_number_on_this_machine():
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    assert 0 <= free_cores() <= usable_cores()


def test_without_the_kernels_clock_the_load_average_counts(monkeypatch):
    monkeypatch.setattr(cores, "_allowed", lambda: {0, 1, 2, 3})
    monkeypatch.setattr(cores, "_quotas", list)
    monkeypatch.setattr(cores, "busy_between", lambda *_: (_ for _ in ()).throw(ValueError()))
    monkeypatch.setattr(cores.os, "getloadavg", lambda: (1.5, 0, 0))
    assert free_cores() == 2.5
    monkeypatch.setattr(cores, "_quotas", lambda: [2])
    assert usable_cores() == 2 and free_cores() == 2


def test_scoring_uses_the_given_number_or_else_that_of_training():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        choose_scoring_device(RuntimeConfig(device="cpu"), Output(quiet=True))
        assert torch.get_num_threads() == 3
        choose_scoring_device(RuntimeConfig(device="cpu", threads="2"), Output(quiet=True))
        assert torch.get_num_threads() == 2
        with pytest.raises(UsageError, match="not a number of threads"):
            choose_scoring_device(RuntimeConfig(device="cpu", threads="many"), Output(quiet=True))
    finally:
        torch.set_num_threads(before)
