"""Kinetics-Sounds by the literature's lists, my_train.txt and my_test.txt; a line is `id,10,label`.

Clips are in ROOT/{train,val,test}/<class>/, in ROOT/{train,val,test}/, in ROOT/<class>/ or in ROOT. Their
names are those of the lists or those of Kinetics: both begin with the video's YouTube id, and each video has
only one clip. Videos disappear from the web. Clips that are not on disk are counted by class and left out;
with --strict they are an error.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mgap_cli.config import DataConfig
from mgap_cli.data.clips import Clip, Dataset
from mgap_cli.data.sources import SourceOptions, existing_folder
from mgap_cli.data.splits import carve_validation
from mgap_cli.data.tables import read_lines
from mgap_cli.errors import UnfitError

SUMMARY = "Kinetics-Sounds: the literature's lists, clips in {train,test}/<class>/*.mp4 or flat"
OPTIONS = frozenset({"strict"})

CLASSES = (
    "blowing_nose",
    "blowing_out_candles",
    "bowling",
    "chopping_wood",
    "dribbling_basketball",
    "laughing",
    "mowing_lawn",
    "playing_accordion",
    "playing_bagpipes",
    "playing_bass_guitar",
    "playing_clarinet",
    "playing_drums",
    "playing_guitar",
    "playing_harmonica",
    "playing_keyboard",
    "playing_organ",
    "playing_piano",
    "playing_saxophone",
    "playing_trombone",
    "playing_trumpet",
    "playing_violin",
    "playing_xylophone",
    "ripping_paper",
    "shoveling_snow",
    "shuffling_cards",
    "singing",
    "stomping_grapes",
    "tap_dancing",
    "tapping_guitar",
    "tapping_pen",
    "tickling",
)  # in label order
LISTS = {"train": "my_train.txt", "test": "my_test.txt"}
FOLDERS = {
    "train": ("train", ""),
    "test": ("test", "val", ""),
}  # where a list's clips may be
_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi")
_YOUTUBE_ID = re.compile(r".{11}")  # followed by _000058_000068 or, in the test list, _2


def load(root: Path | None, config: DataConfig, options: SourceOptions) -> Dataset:
    """Return the listed clips that are on disk, in the lists' order; a clip's group is its video id."""
    folder = existing_folder("kinetics-sounds", root)
    listed = [row for split, name in LISTS.items() for row in _read(folder / name, split)]
    index = _index(folder)
    clips, missing = [], Counter[str]()
    for number, split, label in listed:
        candidates = itertools.product(FOLDERS[split], (label, ""), (number, _youtube_id(number)))
        video = next((index[key] for key in candidates if key in index), None)
        if video is None:
            missing[label] += 1
        else:
            clips.append(Clip(number, label, split, video, group=_youtube_id(number)))
    notes = []
    if missing:
        by_class = ", ".join(f"{label} {count}" for label, count in sorted(missing.items()))
        notes.append(f"{missing.total()} of {len(listed)} listed clips are not on disk: {by_class}")
        if options.strict or not clips:
            raise UnfitError(f"{folder}: {notes[0]}.", "" if options.strict else "Is this the right folder?")
    trained = {clip.group for clip in clips if clip.split == "train"}
    if shared := trained & {clip.group for clip in clips if clip.split == "test"}:
        notes.append(f"{len(shared)} videos are in both train and test: {', '.join(sorted(shared)[:5])}")
    clips = carve_validation(clips, config.val_share, config.seed)
    lists = tuple(folder / name for name in LISTS.values())
    recorded = {"strict": options.strict}
    return Dataset("kinetics-sounds", clips, CLASSES, tuple(notes), recorded, folder, lists)


def _read(path: Path, split: str) -> Iterator[tuple[str, str, str]]:
    """Yield (id, split, class name); a repeated id counts once."""
    labels = {str(number) for number in range(len(CLASSES))}
    seen: dict[str, str] = {}
    for number, line in read_lines(path):
        fields = line.rsplit(",", 2)
        if len(fields) != 3 or fields[2].strip() not in labels:
            raise UnfitError(
                f"{path}: line {number} is not `id,10,label` with a label of 0 to 30: {line[:80]!r}."
            )
        name, label = fields[0].strip(), CLASSES[int(fields[2])]
        if seen.setdefault(name, label) != label:
            raise UnfitError(f"{path}: line {number}: {name} is listed as {seen[name]} already.")
    yield from ((name, split, label) for name, label in seen.items())


def _youtube_id(name: str) -> str:
    match = _YOUTUBE_ID.match(name)
    return match[0] if match else name


def _index(folder: Path) -> dict[tuple[str, str, str], Path]:
    """Return {(split or "", class or "", id): file} of every video in a known folder, by both its ids."""
    index: dict[tuple[str, str, str], Path] = {}
    for split in ("", "train", "val", "test"):
        base = folder / split
        for label in ("", *CLASSES):
            # Kinetics' own folders have spaces where the list has underscores.
            for name in {label, label.replace("_", " ")}:
                folder_of_class = base / name
                if not folder_of_class.is_dir():
                    continue
                for path in sorted(folder_of_class.iterdir()):
                    if path.suffix.lower() in _SUFFIXES:
                        for key in {path.stem, _youtube_id(path.stem)}:
                            index.setdefault((split, label, key), path)
    return index
