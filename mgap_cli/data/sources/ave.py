"""AVE as published: AVE/<video id>.mp4 beside Annotations.txt and the three split files.

A line is Category&VideoID&Quality&Start&End; a header is optional. Some videos occur more than once, and 18
training videos are in the validation or test list, too; these are reported and dropped from train.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mgap_cli.config import DataConfig
from mgap_cli.data.clips import SPLITS, Clip, Dataset
from mgap_cli.data.sources import SourceOptions, existing_folder
from mgap_cli.data.splits import carve_validation
from mgap_cli.data.tables import read_lines
from mgap_cli.errors import UnfitError

SUMMARY = "AVE: audio-visual events, AVE/*.mp4 and its four .txt files"
OPTIONS = frozenset({"segment", "keep_leaks"})

LISTS = {"train": "trainSet.txt", "val": "valSet.txt", "test": "testSet.txt"}


@dataclass(frozen=True)
class _Row:
    category: str
    video: str
    start: float
    end: float
    split: str


def load(root: Path | None, config: DataConfig, options: SourceOptions) -> Dataset:
    """Return the clips of the three lists, in their order; a clip's group is its video id.

    `segment` "event" takes the annotated seconds, "clip" (the default) all ten.
    """
    folder = existing_folder("ave", root)
    rows = [row for split in SPLITS for row in _read(folder / LISTS[split], split)]
    if (folder / "Annotations.txt").exists():
        _require_annotated(rows, _read(folder / "Annotations.txt", ""), folder / "Annotations.txt")
    kept, notes = _without_leaks(rows, options.keep_leaks)
    media = folder / "AVE" if (folder / "AVE").is_dir() else folder
    event = options.segment == "event"
    empty = sum(row.start >= row.end for row in kept)
    if event and empty:
        notes.append(f"{empty} annotated events have no duration; their whole clips are taken")
    times: Counter[tuple[str, str]] = Counter()
    clips = []
    for row in kept:
        times[row.split, row.video] += 1
        clips.append(_clip(row, media, event, times[row.split, row.video]))
    ids = Counter(clip.id for clip in clips)
    clips = [_told_apart(clip) if ids[clip.id] > 1 else clip for clip in clips]
    clips = carve_validation(clips, config.val_share, config.seed)
    recorded = {"segment": options.segment or "clip", "keep_leaks": options.keep_leaks}
    classes = tuple(sorted({row.category for row in rows}))
    lists = tuple(folder / name for name in LISTS.values())
    return Dataset("ave", clips, classes, tuple(notes), recorded, folder, lists)


def _clip(row: _Row, media: Path, event: bool, occurrence: int) -> Clip:
    cut = event and row.start < row.end
    return Clip(
        id=row.video if occurrence == 1 else f"{row.video}#{occurrence}",
        label=row.category,
        split=row.split,
        video=media / f"{row.video}.mp4",
        start=row.start if cut else None,
        end=row.end if cut else None,
        group=row.video,
        extra={"event_start": f"{row.start:g}", "event_end": f"{row.end:g}"},
    )


def _told_apart(clip: Clip) -> Clip:
    """Add the split to the id of a clip that is in two splits because leaks are kept."""
    return dataclasses.replace(clip, id=f"{clip.id}@{clip.split}")


def _read(path: Path, split: str) -> list[_Row]:
    rows = []
    for index, (number, line) in enumerate(read_lines(path)):
        fields = [field.strip() for field in line.split("&")]
        try:
            category, video, _, start, end = fields
            rows.append(_Row(category, video, _seconds(start), _seconds(end), split))
        except ValueError as error:
            if index == 0 and fields[0].lower() == "category":
                continue  # the published zip's header
            raise UnfitError(
                f"{path}: line {number} is not Category&VideoID&Quality&Start&End: {line[:80]!r}."
            ) from error
    return rows


def _seconds(text: str) -> float:
    """Return a time in seconds, 0 or more; ValueError if `text` is something else."""
    seconds = float(text)
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"{text!r} is not a time")
    return seconds


def _require_annotated(rows: Sequence[_Row], annotations: Sequence[_Row], path: Path) -> None:
    known = {(row.category, row.video) for row in annotations}
    unknown = [row for row in rows if (row.category, row.video) not in known]
    if unknown:
        first = f"{unknown[0].category}&{unknown[0].video}"
        raise UnfitError(f"{path}: {len(unknown)} listed clips are not annotated, first {first}.")


def _without_leaks(rows: list[_Row], keep: bool) -> tuple[list[_Row], list[str]]:
    """Drop training rows whose video is in another list, with a message."""
    videos = {split: {row.video for row in rows if row.split == split} for split in SPLITS}
    notes, leaked = [], set()
    for other in ("test", "val"):
        shared = videos["train"] & videos[other]
        leaked |= shared
        if shared:
            fate = "kept (--keep-leaks)" if keep else "dropped from train"
            notes.append(f"{len(shared)} videos are in both train and {other}: {fate}")
    if shared := videos["val"] & videos["test"]:
        notes.append(f"{len(shared)} videos are in both val and test")
    if keep:
        return rows, notes
    return [row for row in rows if row.split != "train" or row.video not in leaked], notes
