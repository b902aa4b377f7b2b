"""The trials of a comparison without real training: order, stops, failures and the choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mgap_cli.comparison.cell_result import CellResult
from mgap_cli.comparison.plan import TRIAL_SEED
from mgap_cli.comparison.tuning import read_values
from mgap_cli.config import Between, Config
from mgap_cli.errors import MgapError
from mgap_cli.output import Output
from mgap_cli.workflow.cell import CellJob
from mgap_cli.workflow.comparison import Comparison
from mgap_cli.workflow.tuning import run_trials, tunings, with_chosen_values

pytest.importorskip("optuna")

TRIALS = 5
QUIET = Output(quiet=True)


class Killed(Exception):
    """Raised in place of the end of the process."""


def comparison() -> Comparison:
    config = Config().with_methods(["agm", "joint"])
    rate = {"train.lr": Between(1e-4, 1e-2, log=True).to_dict()}
    spaces = {"a/agm": {**rate, "agm.alpha": Between(0.1, 5).to_dict()}, "a/joint": rate}
    settings = {key: config.to_dict() for key in spaces}
    methods = {"agm": "agm", "joint": "joint"}
    return Comparison({"a": "data/a"}, {"a": "0"}, methods, (0,), settings, TRIALS, spaces)


def accuracy(job: CellJob) -> float:
    """Return the result of a trial: the learning rate 0.003 is the best."""
    return 1 - abs(float(job.settings["train"]["lr"]) - 0.003)


def training(
    calls: list[str], killed_at: int = -1, fails: Callable[[CellJob], bool] = lambda job: False
) -> Callable[[Sequence[CellJob]], None]:
    """Return a stand-in for the pool, which names each job in `calls` and is killed before one of them."""

    def run(jobs: Sequence[CellJob]) -> None:
        for job in jobs:
            if len(calls) == killed_at:
                raise Killed
            calls.append(str(job))
            assert job.settings["train"]["seed"] == TRIAL_SEED
            figures = {"val": {"fused.accuracy": accuracy(job)}}
            failed = fails(job)
            CellResult(
                job.cell,
                "failed" if failed else "done",
                figures={} if failed else figures,
                head="fused",
                error="it diverged" if failed else "",
            ).write(job.results)

    return run


def test_every_method_gets_the_same_number_of_trials_in_turn(tmp_path):
    calls: list[str] = []
    run_trials(comparison(), tmp_path, training(calls), QUIET)
    assert calls == [f"a {method} trial {n}" for n in range(TRIALS) for method in ("agm", "joint")]
    tuned = tunings(comparison(), tmp_path)
    assert [(t.method, len(t.trials), t.failed) for t in tuned] == [("agm", TRIALS, 0), ("joint", TRIALS, 0)]


@pytest.mark.parametrize("killed_at", range(2 * TRIALS))
def test_a_stop_at_any_trial_changes_nothing(tmp_path, killed_at):
    run_trials(comparison(), tmp_path / "whole", training([]), QUIET)
    calls: list[str] = []
    with pytest.raises(Killed):
        run_trials(comparison(), tmp_path / "stopped", training(calls, killed_at), QUIET)
    run_trials(comparison(), tmp_path / "stopped", training(calls), QUIET)
    assert len(calls) == len(set(calls)) == 2 * TRIALS
    assert tunings(comparison(), tmp_path / "whole") == tunings(comparison(), tmp_path / "stopped")


def test_the_best_trial_gives_the_settings_of_all_cells(tmp_path):
    run_trials(comparison(), tmp_path, training([]), QUIET)
    chosen = with_chosen_values(comparison(), tmp_path)
    for tuning in tunings(comparison(), tmp_path):
        rates = [float(trial.values["train.lr"]) for trial in tuning.trials]
        best = min(rates, key=lambda rate: abs(rate - 0.003))
        for cell in chosen.cells():
            if cell.method == tuning.method:
                job = chosen.job(cell, tmp_path)
                assert job.settings["train"]["lr"] == best
                assert job.settings["train"]["seed"] == cell.seed


def test_unfinished_trials_choose_nothing(tmp_path):
    with pytest.raises(Killed):
        run_trials(comparison(), tmp_path, training([], 2 * TRIALS - 1), QUIET)
    assert [tuning.method for tuning in tunings(comparison(), tmp_path)] == ["agm"]
    assert with_chosen_values(comparison(), tmp_path).settings["a/joint"] == comparison().settings["a/joint"]


def test_a_failed_trial_counts_as_the_worst(tmp_path):
    fails = training([], fails=lambda job: str(job).endswith(("trial 0", "trial 3")))
    run_trials(comparison(), tmp_path, fails, QUIET)
    for tuning in tunings(comparison(), tmp_path):
        assert tuning.failed == 2 and not tuning.chosen.failed
        assert [trial.accuracy for trial in tuning.trials if trial.failed] == [0, 0]


def test_where_all_trials_fail_the_values_of_the_plan_stay(tmp_path):
    run_trials(comparison(), tmp_path, training([], fails=lambda job: True), QUIET)
    assert with_chosen_values(comparison(), tmp_path).settings == comparison().settings


def test_failed_trials_run_again_on_request_with_the_same_values(tmp_path):
    plan = comparison()
    run_trials(plan, tmp_path, training([], fails=lambda job: True), QUIET)
    before = [read_values(trial, tmp_path) for trial in plan.every_trial()]
    calls: list[str] = []
    run_trials(plan, tmp_path, training(calls), QUIET)
    assert calls == []
    run_trials(plan, tmp_path, training(calls), QUIET, retry_failed=True)
    assert len(calls) == 2 * TRIALS
    assert [read_values(trial, tmp_path) for trial in plan.every_trial()] == before


def test_failed_trials_are_kept_if_a_cell_has_the_chosen_values(tmp_path):
    plan = comparison()
    run_trials(plan, tmp_path, training([], fails=lambda job: True), QUIET)
    CellResult(plan.cells()[0], "done").write(tmp_path)
    calls: list[str] = []
    run_trials(plan, tmp_path, training(calls), QUIET, retry_failed=True)
    assert calls == [f"a joint trial {n}" for n in range(TRIALS)]


def test_a_trial_without_a_result_stops_the_comparison(tmp_path: Path):
    """Its process was asked to stop, and the later trials need its result."""
    with pytest.raises(MgapError, match="stopped") as caught:
        run_trials(comparison(), tmp_path, lambda jobs: None, QUIET)
    assert caught.value.exit_code == 75
