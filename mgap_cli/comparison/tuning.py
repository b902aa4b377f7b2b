"""Tuning of each method on each store: the search space, and the trial whose values are chosen."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgap_cli.comparison.cell_result import CellResult
from mgap_cli.comparison.plan import DEFAULT_METRIC, Trial
from mgap_cli.config import Between, Config, Search, SearchSpace
from mgap_cli.errors import UnfitError, UsageError
from mgap_cli.files import MALFORMED, damaged, read_json, write_json
from mgap_cli.methods import space_of

if TYPE_CHECKING:
    from mgap_cli.data.store import Store

LEARNING_RATE = "train.lr"
FACTOR = 10  # the learning rate is searched from the plan's value / FACTOR to the plan's value * FACTOR
WORST = 0.0  # the accuracy of a failed trial
_SCHEMA = "mgap.trial-values/1"


@dataclass(frozen=True)
class TrialOutcome:
    """One finished trial. values: by setting. accuracy: on validation; WORST if the trial failed."""

    values: Mapping[str, Any]
    accuracy: float
    failed: bool = False


@dataclass(frozen=True)
class Tuning:
    """All trials of a method on a store in their order; there is at least one."""

    store: str
    method: str
    trials: tuple[TrialOutcome, ...]

    @property
    def chosen(self) -> TrialOutcome:
        """The trial with the highest accuracy; of equal trials, the earliest."""
        return max(self.trials, key=lambda trial: trial.accuracy)

    @property
    def failed(self) -> int:
        return sum(trial.failed for trial in self.trials)


def tuning_space(method: str, config: Config, fixed: Container[str], store: Store) -> SearchSpace:
    """Return the search space of a method's trials on a store, by setting; the learning rate is first.

    config: the plan's settings. fixed: settings of the method that the plan gives it by name, which are not
    searched. Raises UnfitError for a store without validation samples. Raises UsageError if the epoch is
    chosen on the test set, and for a setting outside its search space.
    """
    if not (store.splits == "val").any():
        raise UnfitError(
            f"{store.path}: it has no validation samples, and --tune needs them to choose the settings.",
            "Prepare the data with a validation split, or leave --tune out.",
        )
    if config.train.select == "test":
        raise UsageError(
            "--tune chooses settings by validation accuracy, but train.select is test.",
            "Set train.select to val or last.",
        )
    lr = config.train.lr
    space: dict[str, Search] = {LEARNING_RATE: Between(lr / FACTOR, lr * FACTOR, log=True)}
    now = config.flat()
    for key, search in space_of(method).items():
        if key in fixed:
            continue
        if now[key] not in search:
            raise UsageError(
                f"--tune: {key} is {now[key]}, which is outside its search space, {search}.",
                f"To leave it out of the search, use --methods {method}:{key.partition('.')[2]}={now[key]}",
            )
        space[key] = search
    return space


def with_values(
    tree: Mapping[str, Mapping[str, Any]], values: Mapping[str, Any]
) -> dict[str, Mapping[str, Any]]:
    """Return a tree {section: {key: value}} with the values {"section.key": value}."""
    changed = dict(tree)
    for name, value in values.items():
        section, key = name.split(".")
        changed[section] = {**changed[section], key: value}
    return changed


def outcome(result: CellResult, values: Mapping[str, Any]) -> TrialOutcome:
    """Return the outcome of a finished trial with these values."""
    accuracy = result.figure(DEFAULT_METRIC, "val")
    if result.state == "failed" or accuracy is None or not math.isfinite(accuracy):
        return TrialOutcome(values, WORST, failed=True)
    return TrialOutcome(values, accuracy)


def read_values(trial: Trial, results: Path) -> dict[str, Any] | None:
    """Return the values of a trial that was started, else None. UnfitError for a damaged file."""
    path = trial.values_file(results)
    document = read_json(path)
    if document is None:
        return None
    try:
        if document["schema"] != _SCHEMA:
            raise ValueError("another version of mgap wrote it")
        return dict(document["values"])
    except MALFORMED as error:
        raise damaged(path, error) from error


def write_values(trial: Trial, results: Path, values: Mapping[str, Any]) -> None:
    write_json(trial.values_file(results), {"schema": _SCHEMA, "values": dict(values)})
