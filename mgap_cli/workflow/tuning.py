"""Equal tuning: the trials of each method on each store, and the plan with the values that they choose.

The trials of one method on one store run one after the other, because each depends on the earlier ones.
Trials with the same number run together, so that all methods have equally many trials if the command is
stopped.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgap_cli.comparison.cell_result import read_result
from mgap_cli.comparison.plan import TRIAL_SEED, Trial
from mgap_cli.comparison.process_pool import StoppedBySignal
from mgap_cli.comparison.suggestions import require_optuna, suggestion
from mgap_cli.comparison.tuning import TrialOutcome, Tuning, outcome, read_values, with_values, write_values
from mgap_cli.config import SearchSpace, search_of
from mgap_cli.errors import UsageError
from mgap_cli.output import Output
from mgap_cli.signals import stop_on_signal

if TYPE_CHECKING:
    from mgap_cli.workflow.cell import CellJob
    from mgap_cli.workflow.comparison import Comparison

Run = Callable[[Sequence["CellJob"]], None]


def run_trials(
    comparison: Comparison, results: Path, run: Run, sink: Output, retry_failed: bool = False
) -> None:
    """Run every trial that is not finished.

    run: runs jobs and writes the record of each. With `retry_failed`, a failed trial is run again unless a
    cell of its method and store is finished, because that cell has the chosen values. Raises UsageError if
    Optuna is needed and is not installed, and MgapError if a signal stops the command.
    """
    every = comparison.every_trial()
    if any(trial.number and read_values(trial, results) is None for trial in every):
        require_optuna()
    settled = _settled(comparison, results)
    with stop_on_signal() as flag:
        for number in range(comparison.trials):
            jobs = []
            for trial in (trial for trial in every if trial.number == number):
                result = read_result(trial, results)
                again = retry_failed and (trial.store, trial.method) not in settled
                if result is None or (result.state == "failed" and again):
                    jobs.append(comparison.job(trial, results.resolve(), _values(comparison, trial, results)))
            if jobs:
                sink.log(f"tuning: trial {number + 1} of {comparison.trials}, {len(jobs)} to run")
                run(jobs)
            if flag.caught:
                raise StoppedBySignal(flag.caught)
            if any(read_result(job.cell, results) is None for job in jobs):
                # A signal stopped the process of one trial only, and the next trials need its result.
                raise StoppedBySignal(signal.SIGTERM)


def require_finished_trials(comparison: Comparison, results: Path) -> None:
    """Raise UsageError if a trial is not finished: Slurm jobs run only cells."""
    left = [trial for trial in comparison.every_trial() if read_result(trial, results) is None]
    if left:
        raise UsageError(
            f"--slurm: {len(left)} trials of --tune are not finished.",
            "Run the same command without --slurm first; stop it when the trials are done.",
        )


def tunings(comparison: Comparison, results: Path) -> tuple[Tuning, ...]:
    """Return the tuning of each store and method whose trials are all finished."""
    complete = []
    for store, method in _pairs(comparison):
        trials = _finished(comparison, store, method, results)
        if trials and len(trials) == comparison.trials:
            complete.append(Tuning(store, method, trials))
    return tuple(complete)


def with_chosen_values(comparison: Comparison, results: Path) -> Comparison:
    """Return the comparison with the chosen values for each method whose trials are all finished."""
    settings = dict(comparison.settings)
    for tuning in tunings(comparison, results):
        key = f"{tuning.store}/{tuning.method}"
        settings[key] = with_values(settings[key], tuning.chosen.values)
    return replace(comparison, settings=settings)


def _values(comparison: Comparison, trial: Trial, results: Path) -> Mapping[str, Any]:
    """Return the values of a trial; if it has none yet, choose and save them."""
    values = read_values(trial, results)
    if values is None:
        key = f"{trial.store}/{trial.method}"
        space: SearchSpace = {name: search_of(plain) for name, plain in comparison.spaces[key].items()}
        finished = _finished(comparison, trial.store, trial.method, results)[: trial.number]
        start = {name: _setting(comparison.settings[key], name) for name in space}
        values = suggestion(space, start, [(each.values, each.accuracy) for each in finished])
        write_values(trial, results, values)
    return values


def _finished(comparison: Comparison, store: str, method: str, results: Path) -> tuple[TrialOutcome, ...]:
    """Return the first trials of a store and method in their order, up to the first that is not finished."""
    outcomes = []
    for number in range(comparison.trials):
        trial = Trial(store, method, TRIAL_SEED, number)
        result, values = read_result(trial, results), read_values(trial, results)
        if result is None or values is None:
            break
        outcomes.append(outcome(result, values))
    return tuple(outcomes)


def _settled(comparison: Comparison, results: Path) -> set[tuple[str, str]]:
    """Return the stores and methods with a finished cell: their values must not change any more."""
    recorded = [result for cell in comparison.cells() if (result := read_result(cell, results))]
    return {(result.cell.store, result.cell.method) for result in recorded if result.state == "done"}


def _pairs(comparison: Comparison) -> list[tuple[str, str]]:
    return [(store, method) for store in comparison.stores for method in comparison.methods]


def _setting(tree: Mapping[str, Mapping[str, Any]], name: str) -> Any:
    section, key = name.split(".")
    return tree[section][key]
