"""The data sets that `prepare` knows: one module per data set, found by its name.

A source module has `SUMMARY` (one line for the help text), `OPTIONS` (the fields of SourceOptions that it
understands) and `load(root, config, options) -> Dataset`. To add a data set, add its module here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from mgap_cli.config import DataConfig, DigitsVariant
from mgap_cli.data.clips import Dataset
from mgap_cli.errors import UnfitError, UsageError, did_you_mean
from mgap_cli.registry import Choices

SOURCES = Choices(__name__, without=("digit_pictures",))
source_names = SOURCES.names


@dataclass(frozen=True)
class SourceOptions:
    """The options of all sources; each source understands some of them."""

    label: str | None = None  # manifest: the label column
    split_files: tuple[Path, ...] = ()  # cremad: the literature's CSV files
    split: Literal["random", "speaker"] | None = None  # cremad: a split of mgap
    segment: Literal["clip", "event"] | None = None  # ave: the whole clip or the annotated event
    keep_leaks: bool = False  # ave: keep training clips whose video is in val or test
    strict: bool = False  # kinetics-sounds: a missing clip is an error
    modalities: tuple[str, ...] = ()  # features: the arrays to take, all by default
    variant: DigitsVariant | None = None  # digits: what replaces the pictures

    def given(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, as plain values."""
        fields = {f.name: (getattr(self, f.name), f.default) for f in dataclasses.fields(self)}
        return {name: _plain(value) for name, (value, default) in fields.items() if value != default}


def source_module(name: str) -> ModuleType:
    """Return the module of a source; UsageError, with a suggestion, if there is none of that name."""
    if name not in source_names():
        hint = did_you_mean(name, source_names(), f"Known data sets: {', '.join(source_names())}.")
        raise UsageError(f"Unknown data set {name!r}.", hint)
    return SOURCES.load(name)


def load_dataset(
    name: str,
    root: Path | None,
    config: DataConfig,
    *,
    label: str | None = None,
    split_files: Sequence[Path] = (),
    split: Literal["random", "speaker"] | None = None,
    segment: Literal["clip", "event"] | None = None,
    keep_leaks: bool = False,
    strict: bool = False,
    modalities: Sequence[str] = (),
    variant: DigitsVariant | None = None,
) -> Dataset:
    """Return the clips of the data set `name` in `root`, without decoding them.

    UsageError for an unknown name or an option that the source does not have; UnfitError for files that
    are missing or malformed.
    """
    module = source_module(name)
    options = SourceOptions(
        label, tuple(split_files), split, segment, keep_leaks, strict, tuple(modalities), variant
    )
    for option in options.given():
        if option not in module.OPTIONS:
            raise UsageError(f"the data set {name} has no option {flag(option)}.")
    try:
        dataset: Dataset = module.load(root, config, options)
    except OSError as error:  # a folder without permission, a name too long, a disk that fails
        raise UnfitError(f"{error.filename or root}: cannot be read ({error.strerror}).") from error
    except (ValueError, MemoryError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UnfitError(f"{root}: cannot be read ({type(error).__name__}: {reason}).") from error
    if not dataset.clips:
        raise UnfitError(f"{root}: no clips of {name} found.")
    if (dataset.reader or dataset.arrays) and config.crop != DataConfig().crop:
        raise UsageError(f"data.crop: {name} has no camera frames to crop.", "Leave data.crop out.")
    return dataset


def flag(option: str) -> str:
    """Return the command line's name of a field of SourceOptions."""
    return "--split" if option == "split_files" else f"--{option.replace('_', '-')}"


def existing_folder(name: str, root: Path | None) -> Path:
    """Return the absolute path of `root`; UsageError if it is missing, UnfitError if it is not a folder."""
    if root is None:
        raise UsageError(f"{name} needs its folder.", f"mgap prepare {name} FOLDER")
    if not root.is_dir():
        raise UnfitError(f"{root}: {'not a folder' if root.exists() else 'no such folder'}.")
    return root.absolute()


def _plain(value: Any) -> Any:
    return [str(path) for path in value] if isinstance(value, tuple) else value
