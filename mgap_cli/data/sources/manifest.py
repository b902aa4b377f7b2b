"""Any audio-visual data set, from a CSV file with `id,path,split,<label column>` and further columns.

mgap interprets the columns `audio_path` (default: the sound in the video), `start` and `end` in seconds, and
`group` (a speaker or a source video). Every other column is kept in clips.csv under its name, or with
`source_` before it if clips.csv uses that name itself. Paths are relative to the CSV file's folder and stay
inside it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path

from mgap_cli.config import DataConfig
from mgap_cli.data.clips import MEDIA_COLUMNS, SPLITS, Clip, Dataset
from mgap_cli.data.sources import SourceOptions
from mgap_cli.data.splits import carve_validation
from mgap_cli.data.tables import read_table
from mgap_cli.errors import UnfitError, UsageError

SUMMARY = "any data set, from a CSV of id, path, split and a label column"
OPTIONS = frozenset({"label"})

REQUIRED = ("id", "path", "split")
LONGEST_REASON = 300  # characters, because a wrong cell may be very long
KNOWN = (*REQUIRED, "audio_path", "start", "end", "group")


def load(root: Path | None, config: DataConfig, options: SourceOptions) -> Dataset:
    """Return the clips of the CSV file `root`, in its order; the classes are the sorted labels.

    UsageError if the label column is unknown or must be chosen; UnfitError for a malformed file.
    """
    if root is None:
        raise UsageError("manifest needs its CSV file.", "mgap prepare manifest FILE.csv --label COLUMN")
    if root.is_dir():
        raise UsageError(f"{root}: manifest needs a CSV file, not a folder.")
    header, rows = read_table(root)
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        raise UnfitError(
            f"{root}: no column {', '.join(missing)}.", f"It has: {', '.join(header)[:LONGEST_REASON]}."
        )
    column = _label_column(root, header, options.label)
    folder = root.absolute().parent
    kept = _kept_columns(header, column)
    clips: list[Clip] = []
    lines: dict[str, int] = {}
    for line, row in rows:
        try:
            clip = _clip(row, column, kept, folder)
            if clip.id in lines:
                raise ValueError(f"id {clip.id!r} is in line {lines[clip.id]} already")
        except ValueError as error:
            raise UnfitError(f"{root}: line {line}: {str(error)[:LONGEST_REASON]}.") from error
        lines[clip.id] = line
        clips.append(clip)
    if not any(clip.split == "train" for clip in clips):
        raise UnfitError(f"{root}: the split train has no row.")
    classes = tuple(sorted({clip.label for clip in clips}))
    notes = (*_unseen_labels(clips), *_shared_groups(clips))
    clips = carve_validation(clips, config.val_share, config.seed)
    return Dataset("manifest", clips, classes, notes, {"label": column}, folder, (root.absolute(),))


def _label_column(path: Path, header: list[str], chosen: str | None) -> str:
    candidates = [name for name in header if name not in KNOWN]
    names = ", ".join(candidates)[:LONGEST_REASON] or "none"
    if chosen is not None:
        if chosen not in candidates:
            raise UsageError(
                f"{path}: no label column {chosen[:80]!r}.", f"Columns that could be it: {names}."
            )
        return chosen
    if not candidates:
        raise UnfitError(f"{path}: no label column, because all of its columns have another meaning.")
    if len(candidates) > 1:
        raise UsageError(
            f"{path}: several columns could be the label: {names}.", "Choose one: --label COLUMN"
        )
    return candidates[0]


def _kept_columns(header: list[str], column: str) -> dict[str, str]:
    """Return {column of the manifest: its name in clips.csv} for the columns that mgap does not interpret.

    The names are all different, so that no column replaces another.
    """
    others = [name for name in header if name not in KNOWN and name != column]
    names = {name: name for name in others if name not in MEDIA_COLUMNS}
    for name in others:
        if name in MEDIA_COLUMNS:
            new = f"source_{name}"
            while new in names.values():
                new = f"source_{new}"
            names[name] = new
    return {name: names[name] for name in others}


def _clip(row: dict[str, str], column: str, kept: dict[str, str], folder: Path) -> Clip:
    """Return the clip of a row; `kept` as `_kept_columns` returns it.

    ValueError, with a text for the user, if the row is unfit.
    """
    if not row["id"]:
        raise ValueError("no id")
    if row["split"] not in SPLITS:
        raise ValueError(f"split {row['split']!r}; expected {', '.join(SPLITS)}")
    if not row[column]:
        raise ValueError(f"no label in column {column!r}")
    start, end = (_time(row.get(name, ""), name) for name in ("start", "end"))
    if start is not None and end is not None and end <= start:
        raise ValueError(f"end {end:g} is not after start {start:g}")
    video = _inside(row["path"], folder)
    if video is None:
        raise ValueError("no path")
    extra = {new: row[name] for name, new in kept.items()}
    audio = _inside(row.get("audio_path", ""), folder)
    return Clip(row["id"], row[column], row["split"], video, audio, start, end, row.get("group", ""), extra)


def _inside(text: str, folder: Path) -> Path | None:
    """Return the path that `text` names in `folder`; ValueError if the path leaves the folder."""
    if not text:
        return None
    if "\0" in text:
        raise ValueError("a path with a NUL character")
    path = folder / text
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except RuntimeError as error:  # the error of older Pythons for symbolic links that form a loop
        raise ValueError(f"path {text!r} has symbolic links that form a loop") from error
    if not inside:
        raise ValueError(f"path {text!r} leaves the manifest's folder")
    return path


def _time(text: str, name: str) -> float | None:
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"{name} is {text!r}; expected seconds, 0 or more")
    return seconds


def _unseen_labels(clips: list[Clip]) -> list[str]:
    trained = {clip.label for clip in clips if clip.split == "train"}
    unseen = sorted({clip.label for clip in clips} - trained)
    return [f"labels without a training clip: {', '.join(unseen)}"] if unseen else []


def _shared_groups(clips: list[Clip]) -> list[str]:
    splits = defaultdict(set)
    for clip in clips:
        if clip.group:
            splits[clip.group].add(clip.split)
    shared = sorted(group for group, group_splits in splits.items() if len(group_splits) > 1)
    if not shared:
        return []
    listed = ", ".join(shared[:5]) + (" ..." if len(shared) > 5 else "")
    return [f"{len(shared)} groups are in more than one split: {listed}"]
