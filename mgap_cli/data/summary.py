"""The facts of a store: counts, leakage between splits, skipped clips, durations, sizes."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mgap_cli.config import protocol_text
from mgap_cli.data.clips import SPLITS
from mgap_cli.data.store import Store, content_files, damaged
from mgap_cli.modalities.audio_visual import AUDIO, VISUAL
from mgap_cli.modalities.modality import Modality

Counts = dict[str, int]  # clips by split, in the order of SPLITS, without empty splits


@dataclass(frozen=True)
class Leaks:
    """Files and groups that are in more than one split: {name: clips by split}."""

    ids: dict[str, Counts]
    files: dict[str, Counts]  # media files, as clips.csv records them
    groups: dict[str, Counts]  # speakers, source videos


@dataclass(frozen=True)
class Skip:
    """A clip that `prepare` could not read."""

    id: str
    split: str
    label: str
    reason: str


@dataclass(frozen=True)
class Summary:
    """The facts of one store; every clip counts in exactly one class and one split."""

    path: str
    name: str
    version: str  # of the program that made it
    fingerprint: str
    source: dict[str, Any]  # root, and the options of prepare
    protocol: dict[str, Any]
    protocol_name: str  # the preset, and what differs from it
    shapes: dict[str, tuple[int, ...]]  # of the arrays, by modality
    modalities: tuple[Modality, ...]
    splits: Counts
    classes: dict[str, Counts]  # in the classes' order
    groups: dict[str, Counts]  # by name; clips without a group are left out
    seconds: dict[str, list[float]]  # durations by split, ascending
    leaks: Leaks
    leaks_kept: bool | None  # None: there are no leaks that could be kept or dropped
    skipped: list[Skip]
    notes: list[str]  # messages of prepare
    bytes: Counts  # by file

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, durations as total, shortest, median and longest."""
        document = dataclasses.asdict(self)
        del document["modalities"]
        if AUDIO.name in self.shapes and VISUAL.name in self.shapes:
            document["frames"], document["audio"] = self.shapes[VISUAL.name], self.shapes[AUDIO.name]
        document["seconds"] = {split: spread(values) for split, values in self.seconds.items()}
        document["skipped_by_reason"] = dict(Counter(skip.reason for skip in self.skipped).most_common())
        return document


def summarise(store: Store) -> Summary:
    """Return the facts of an open store; UnfitError if store.json or clips.csv lack something.

    The skipped clips are those in store.json; skipped.csv is a copy for readers.
    """
    if not len(store):
        raise damaged(store.path, "it has no clips")
    try:
        columns, source = store.columns, dict(store.meta["source"])
        splits = columns["split"]
        files = (*content_files(store.meta), "skipped.csv", "store.json")
        kept = source["options"].get("keep_leaks")
        return Summary(
            path=str(store.path),
            name=store.name,
            version=str(store.meta["version"]),
            fingerprint=store.fingerprint,
            source=source,
            protocol=dataclasses.asdict(store.data_config),
            protocol_name=protocol_text(store.preset, store.data_config),
            shapes={name: array.shape for name, array in store.arrays.items()},
            modalities=store.modalities,
            splits=_in_order(Counter(splits)),
            classes={name: {} for name in store.classes}
            | _counted(zip(columns["label"], splits, strict=True)),
            groups=dict(sorted(_counted(zip(columns["group"], splits, strict=True)).items())),
            seconds=_durations(columns),
            leaks=_leaks(columns),
            leaks_kept=None if kept is None else bool(kept),
            skipped=[Skip(**row) for row in store.meta["skipped"]],
            notes=[str(note) for note in store.meta["notes"]],
            bytes={
                file: (store.path / file).stat().st_size for file in files if (store.path / file).exists()
            },
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged(store.path, f"{type(error).__name__}: {error}") from error


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return total, shortest, median and longest of at least one duration, in seconds."""
    return {
        "total": round(float(np.sum(values)), 3),
        "shortest": float(np.min(values)),
        "median": float(np.median(values)),
        "longest": float(np.max(values)),
    }


def _leaks(columns: Mapping[str, list[str]]) -> Leaks:
    splits = columns["split"]
    media = zip(columns["video"], columns["audio"], splits, strict=True)
    return Leaks(
        ids=_in_several(_counted(zip(columns["id"], splits, strict=True))),
        files=_in_several(_counted((file, split) for *files, split in media for file in {*files})),
        groups=_in_several(_counted(zip(columns["group"], splits, strict=True))),
    )


def _counted(pairs: Iterable[tuple[str, str]]) -> dict[str, Counts]:
    """Return {name: clips by split} of (name, split) pairs, in order of appearance; "" does not count."""
    counters: dict[str, Counter[str]] = {}
    for name, split in pairs:
        if name:
            counters.setdefault(name, Counter())[split] += 1
    return {name: _in_order(counter) for name, counter in counters.items()}


def _in_order(counter: Counter[str]) -> Counts:
    known = [split for split in SPLITS if counter[split]]
    return {split: counter[split] for split in (*known, *sorted(counter.keys() - {*SPLITS}))}


def _in_several(counted: dict[str, Counts]) -> dict[str, Counts]:
    return {name: counts for name, counts in sorted(counted.items()) if len(counts) > 1}


def _durations(columns: Mapping[str, list[str]]) -> dict[str, list[float]]:
    by_split: dict[str, list[float]] = {}
    for split, text in zip(columns["split"], columns["duration"], strict=True):
        if text:
            seconds = float(text)
            if not math.isfinite(seconds):
                raise ValueError(f"clips.csv has the duration {text!r}")
            by_split.setdefault(split, []).append(seconds)
    return {split: sorted(values) for split, values in by_split.items()}
