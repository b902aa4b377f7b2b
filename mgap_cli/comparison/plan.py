"""The plan of a comparison: stores x methods x named settings x seeds, and where each cell is kept.

RESULTS/
  plan.json                                the plan of the last command line
  cells/<store>/<method>[-setting=value]/
    seed0/                                 a run folder, as `mgap train` makes it
    seed0.json                             the result of the cell, or the error that stopped it
    seed0.log                              what the cell printed
  trials/<store>/<method>[-setting=value]/   trials of --tune: the same files for each trial, and
    trial0-values.json                     the values of the trial's settings
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

from mgap_cli.config import read_yaml
from mgap_cli.errors import UsageError
from mgap_cli.yaml_reader import parse_yaml, shortened

DEFAULT_SEEDS = 3
DEFAULT_METRIC = "fused.accuracy"
_UNSAFE = re.compile(r"[^\w.=+,-]+")
_KEYS = ("stores", "methods", "seeds", "settings", "tune")
TRIAL_SEED = 1_000_000  # seed of trials, and never of cells: a cell must not repeat a trial


@dataclass(frozen=True)
class MethodChoice:
    """A method and the settings that this comparison gives it.

    name: as on the command line, a name or path/to/file.py:Class. settings: (key, value) without section.
    """

    name: str
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def label(self) -> str:
        """The method's name in tables and folders, such as `adaptive-lambda_gap=3`."""
        words = [self.name.rpartition(":")[2], *(f"{key}={value}" for key, value in self.settings)]
        return _UNSAFE.sub("_", "-".join(words))


@dataclass(frozen=True)
class Request:
    """What the user asks to compare.

    settings: a tree {section: {key: value}} for every cell. trials: the number for each method on each store;
    0 means no tuning.
    """

    stores: tuple[Path, ...]
    methods: tuple[MethodChoice, ...]
    seeds: tuple[int, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    trials: int = 0

    def __post_init__(self) -> None:
        for what, values in (("store", self.stores), ("method", self.methods), ("seed", self.seeds)):
            if not values:
                raise UsageError(f"compare: the plan has no {what}.", f"Name at least one {what}.")
        _refuse_repeats("method", [method.label for method in self.methods])
        _refuse_repeats("seed", [str(seed) for seed in self.seeds])
        _refuse_repeats("store", [str(path.resolve()) for path in self.stores])
        if self.trials and TRIAL_SEED in self.seeds:
            raise UsageError(
                f"compare: the seed {TRIAL_SEED} is reserved for the trials of --tune.",
                "Choose another seed for the cells.",
            )

    def store_names(self) -> dict[Path, str]:
        """Return a name for each store: its folder's, with the parent's name first if two are equal."""
        names = {path: path.resolve().name for path in self.stores}
        times = Counter(names.values())
        names = {
            path: name if times[name] == 1 else f"{path.resolve().parent.name}-{name}"
            for path, name in names.items()
        }
        _refuse_repeats("store name", list(names.values()))
        return {path: _UNSAFE.sub("_", name) for path, name in names.items()}


@dataclass(frozen=True)
class Cell:
    """One training of a method on a store with a seed.

    store, method: their names in this comparison. splits: those that it is evaluated on, if the store has
    them. keeps_checkpoints: whether its checkpoints stay after the evaluation.
    """

    store: str
    method: str
    seed: int
    splits: ClassVar[tuple[str, ...]] = ("test", "val")
    keeps_checkpoints: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"{self.store} {self.method} seed {self.seed}"

    @property
    def counted_as(self) -> str:
        """The row of the table of states that counts this cell."""
        return self.method

    def folder(self, results: Path) -> Path:
        return results / "cells" / self.store / self.method / f"seed{self.seed}"

    def record(self, results: Path) -> Path:
        folder = self.folder(results)
        return folder.with_name(f"{folder.name}.json")

    def log(self, results: Path) -> Path:
        folder = self.folder(results)
        return folder.with_name(f"{folder.name}.log")


@dataclass(frozen=True)
class Trial(Cell):
    """A training that tunes a method on a store; `number` counts from 0 for each method on each store.

    It is not evaluated on test, because no choice may use test data. The checkpoints of many trials would
    fill a disk.
    """

    number: int = 0
    splits: ClassVar[tuple[str, ...]] = ("val",)
    keeps_checkpoints: ClassVar[bool] = False

    def __str__(self) -> str:
        return f"{self.store} {self.method} trial {self.number}"

    @property
    def counted_as(self) -> str:
        return f"{self.method}, trials"

    def folder(self, results: Path) -> Path:
        return results / "trials" / self.store / self.method / f"trial{self.number}"

    def values_file(self, results: Path) -> Path:
        folder = self.folder(results)
        return folder.with_name(f"{folder.name}-values.json")


def parse_methods(text: str) -> tuple[MethodChoice, ...]:
    """Return the methods of `--methods`: names with commas between them, settings after colons.

    `joint,unimodal:modality=audio` is two methods. Raises UsageError for an empty name.
    """
    return tuple(_method(word, "--methods") for word in text.split(","))


def read_request(path: Path) -> Request:
    """Read a YAML plan with the keys stores, methods, seeds, settings and tune.

    stores: a list of folders, relative to the working folder. methods: a list of methods as `--methods` has
    them, or a mapping from a name to that method's own settings, where a list of values is a grid. seeds: a
    count, or a list. settings: sections and keys for all cells. tune: number of trials. Raises UsageError,
    which names the file, for anything else.
    """
    tree = read_yaml(path)
    unknown = [key for key in tree if key not in _KEYS]
    if unknown:
        raise UsageError(f"{path}: unknown key {shortened(unknown[0])}.", f"The keys are {', '.join(_KEYS)}.")
    stores = tree.get("stores", [])
    if not isinstance(stores, list) or not all(isinstance(store, str) for store in stores):
        raise UsageError(f"{path}: stores must be a list of folders.")
    settings = tree.get("settings") or {}
    if not isinstance(settings, Mapping):
        raise UsageError(f"{path}: settings must be sections with keys, as in a file for --config.")
    trials = tree.get("tune", 0)
    if type(trials) is not int or trials < 0:
        raise UsageError(f"{path}: tune is {shortened(trials)}; expected a number of trials.")
    methods = _methods(tree.get("methods", []), path)
    seeds = parse_seeds(tree.get("seeds", DEFAULT_SEEDS), str(path))
    return Request(tuple(map(Path, stores)), methods, seeds, settings, trials)


def parse_seeds(given: object, origin: str) -> tuple[int, ...]:
    """Return seeds from a count (0, 1, ... count - 1) or a list of seeds."""
    values = list(range(given)) if type(given) is int and given > 0 else given
    if isinstance(values, list) and values and all(type(v) is int and 0 <= v < 2**32 for v in values):
        return tuple(values)
    raise UsageError(f"{origin}: seeds is {shortened(given)}; expected a count or a list of seeds from 0.")


def _methods(given: object, path: Path) -> tuple[MethodChoice, ...]:
    if isinstance(given, list) and all(isinstance(name, str) for name in given):
        return tuple(_method(word, f"{path}: methods") for word in given)
    if isinstance(given, Mapping) and all(isinstance(v, Mapping | None) for v in given.values()):
        return tuple(
            MethodChoice(str(name), chosen)
            for name, settings in given.items()
            for chosen in _grid(settings or {})
        )
    raise UsageError(f"{path}: methods must be a list of names, or names with their settings.")


def _method(word: str, origin: str) -> MethodChoice:
    """Return one method from its name and, after colons, its settings; UsageError for an empty name."""
    parts = word.strip().split(":")
    assignments = [part for part in parts[1:] if "=" in part]
    name = ":".join(part for part in parts if part not in assignments)
    if not name:
        raise UsageError(
            f"{origin}: {shortened(word)} has no name of a method.",
            "Write a name, such as joint, or with settings unimodal:modality=audio.",
        )
    pairs = [part.partition("=")[::2] for part in assignments]
    settings = tuple((key, parse_yaml(value, f"{origin} {shortened(word)}")) for key, value in pairs)
    return MethodChoice(name, settings)


def _grid(settings: Mapping[str, Any]) -> Iterable[tuple[tuple[str, Any], ...]]:
    """Yield every combination of the values of settings; a single value is in every combination."""
    values = [value if isinstance(value, list) else [value] for value in settings.values()]
    for combination in product(*values):
        yield tuple(zip(settings, combination, strict=True))


def _refuse_repeats(what: str, names: Sequence[str]) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise UsageError(
                f"compare: the {what} {shortened(name)} is in the plan {times} times.", "Name it once."
            )
