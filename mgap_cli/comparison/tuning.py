"""Tuning of each method on each store: what is searched, and which trial's values are chosen."""

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
FACTOR = 10  # the learning rate is searched from a FACTOR below the plan's to a FACTOR above it
WORST = 0.0  # the accuracy that a failed trial counts as
_SCHEMA = "mgap.trial-values/1"


@dataclass(frozen=True)
class TrialOutcome:
    """One finished trial. values: by setting. accuracy: on validation, WORST for a trial that failed."""

    values: Mapping[str, Any]
    accuracy: float
    failed: bool = False


@dataclass(frozen=True)
class Tuning:
    """All trials of a method on a store, in their order, at least one."""

    store: str
    method: str
    trials: tuple[TrialOutcome, ...]

    @property
    def chosen(self) -> TrialOutcome:
        """The trial of the highest accuracy, the earliest of equal ones."""
        return max(self.trials, key=lambda trial: trial.accuracy)

    @property
    def failed(self) -> int:
        return sum(trial.failed for trial in self.trials)


def tuning_space(method: str, config: Config, fixed: Container[str], store: Store) -> SearchSpace:
    """Return what the trials of a method on a store search, by setting: the learning rate is the first.

    config: the plan's settings. fixed: settings of the method that the plan gives it by name, which are not
    searched. Raises UnfitError for a store without validation samples; UsageError where the test set chooses
    the epoch, and for a setting outside of what is searched.
    """
    if not (store.splits == "val").any():
        raise UnfitError(
            f"{store.path}: it has no validation samples, and --tune chooses by them.",
            "Prepare the data with a validation split, or leave --tune out.",
        )
    if config.train.select == "test":
        raise UsageError(
            "--tune chooses by validation, and train.select is test.", "Set train.select to val or last."
        )
    lr = config.train.lr
    space: dict[str, Search] = {LEARNING_RATE: Between(lr / FACTOR, lr * FACTOR, log=True)}
    now = config.flat()
    for key, search in space_of(method).items():
        if key in fixed:
            continue
        if now[key] not in search:
            raise UsageError(
                f"--tune: {key} is {now[key]}, and its search space is {search}.",
                f"Keep it out of the search: --methods {method}:{key.partition('.')[2]}={now[key]}",
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
    """Return what a finished trial with these values counts as."""
    accuracy = result.figure(DEFAULT_METRIC, "val")
    if result.state == "failed" or accuracy is None or not math.isfinite(accuracy):
        return TrialOutcome(values, WORST, failed=True)
    return TrialOutcome(values, accuracy)


def read_values(trial: Trial, results: Path) -> dict[str, Any] | None:
    """Return the values that a trial was started with; None before that. UnfitError for a damaged file."""
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
