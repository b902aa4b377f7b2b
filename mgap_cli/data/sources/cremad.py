"""CREMA-D in the layout of its repository: AudioWAV/<clip>.wav beside VideoFlash/<clip>.flv.

A clip's name is <actor>_<sentence>_<emotion>_<level>; label and group are read from it. VideoMP4 or any .mp4,
AudioMP3, and a folder Image-01-FPS/<clip>/ of frames in place of the video are accepted, too.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from mgap_cli.config import DataConfig
from mgap_cli.data.clips import Clip, Dataset
from mgap_cli.data.sources import SourceOptions, existing_folder
from mgap_cli.data.splits import carve_validation, stratified_choice
from mgap_cli.data.tables import read_lines
from mgap_cli.errors import UnfitError, UsageError

SUMMARY = "CREMA-D: acted emotions, AudioWAV/*.wav and VideoFlash/*.flv"
OPTIONS = frozenset({"split_files", "split"})

CLASSES = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")  # in the order of the literature's label numbers
TEST_SHARE = 0.1  # test share of `random` and `speaker`: the literature's 9 to 1
# The women, from CREMA-D's VideoDemographics.csv (ODbL 1.0); the other 48 actors are men.
WOMEN = {
    1002, 1003, 1004, 1006, 1007, 1008, 1009, 1010, 1012, 1013, 1018, 1020, 1021, 1024, 1025, 1028,
    1029, 1030, 1037, 1043, 1046, 1047, 1049, 1052, 1053, 1054, 1055, 1056, 1058, 1060, 1061, 1063,
    1072, 1073, 1074, 1075, 1076, 1078, 1079, 1082, 1084, 1089, 1091,
}  # fmt: skip

_NAME = re.compile(r"(?P<actor>\d{4})_[A-Z]{3}_(?P<label>[A-Z]{3})_[A-Z]{1,2}")
_VIDEO_FOLDERS = {"VideoFlash": (".flv",), "VideoMP4": (".mp4",)}
_AUDIO_FOLDERS = {"AudioWAV": (".wav",), "AudioMP3": (".mp3",)}
_FRAMES_FOLDER = "Image-01-FPS"


def load(root: Path | None, config: DataConfig, options: SourceOptions) -> Dataset:
    """Return the clips found under `root`, or those that the split files list, sorted by name.

    A listed clip without files is kept, for `prepare` to skip and count.
    """
    folder = existing_folder("cremad", root)
    if options.split and options.split_files:
        raise UsageError("--split needs either files, or one of random and speaker.")
    videos, sounds = _videos(folder), _files(folder, _AUDIO_FOLDERS)
    notes: list[str] = []
    if options.split_files:
        splits = _listed(options.split_files)
        recorded: dict[str, object] = {"split_files": [path.name for path in options.split_files]}
    else:
        names = sorted({name for name in (*videos, *sounds) if _NAME.fullmatch(name)})
        if not names:
            layout = "VideoFlash/*.flv and AudioWAV/*.wav"
            raise UnfitError(f"{folder}: no CREMA-D clips found.", f"Expected {layout} below it.")
        split_kind = options.split or "random"
        splits = _random(names, config.seed) if split_kind == "random" else _by_speaker(names, config.seed)
        recorded = {"split": split_kind}
    clips = [_clip(folder, name, splits[name], videos, sounds) for name in sorted(splits)]
    shared = {c.group for c in clips if c.split == "train"} & {c.group for c in clips if c.split == "test"}
    if shared:
        notes.append(f"{len(shared)} speakers are in both train and test; --split speaker keeps them apart")
    actors = _sexes(splits) if options.split == "speaker" else None
    clips = carve_validation(clips, config.val_share, config.seed, groups=actors)
    return Dataset("cremad", clips, CLASSES, tuple(notes), recorded, folder, options.split_files)


def _clip(folder: Path, name: str, split: str, videos: dict[str, Path], sounds: dict[str, Path]) -> Clip:
    parts = _NAME.fullmatch(name)
    if parts is None or parts["label"] not in CLASSES:
        raise UnfitError(f"{name}: not the name of a CREMA-D clip, such as 1001_DFA_ANG_XX.")
    # If a file is missing, report its published place.
    video = videos.get(name, folder / "VideoFlash" / f"{name}.flv")
    sound = sounds.get(name)
    if sound is None and video.is_dir():
        sound = folder / "AudioWAV" / f"{name}.wav"
    return Clip(name, parts["label"], split, video, sound, group=parts["actor"])


def _videos(folder: Path) -> dict[str, Path]:
    frames = folder / _FRAMES_FOLDER
    folders = {path.name: path for path in frames.iterdir() if path.is_dir()} if frames.is_dir() else {}
    return {**folders, **_files(folder, _VIDEO_FOLDERS)}


def _files(folder: Path, subfolders: Mapping[str, tuple[str, ...]]) -> dict[str, Path]:
    """Return {clip: file}; an earlier place wins."""
    paths: dict[str, Path] = {}
    for subfolder, suffixes in subfolders.items():
        if (folder / subfolder).is_dir():
            for path in sorted((folder / subfolder).iterdir()):
                if path.suffix.lower() in suffixes:
                    paths.setdefault(path.stem, path)
    return paths


def _listed(files: tuple[Path, ...]) -> dict[str, str]:
    """Return {clip: split} of the literature's CSV files, `clip,LABEL`; a file's name gives the split."""
    splits: dict[str, str] = {}
    for path in files:
        split = next((s for s in ("train", "val", "test") if s in path.stem.lower()), None)
        if split is None:
            raise UsageError(f"{path}: the file's name has none of the words train, val and test.")
        for index, (number, line) in enumerate(read_lines(path)):
            try:
                row = next(csv.reader([line]))
            except csv.Error as error:
                raise UnfitError(f"{path}: line {number} is not valid CSV ({error}).") from error
            name = row[0].strip().removesuffix(".flv").removesuffix(".wav")
            parts = _NAME.fullmatch(name)
            if parts is None and index == 0:
                continue  # a header
            if parts is None or parts["label"] not in CLASSES:
                raise UnfitError(f"{path}: line {number}: {name[:80]!r} is not the name of a CREMA-D clip.")
            if len(row) > 1 and row[1].strip() != parts["label"]:
                raise UnfitError(f"{path}: line {number}: label {row[1].strip()[:80]!r} contradicts {name}.")
            if splits.get(name, split) != split:
                raise UnfitError(f"{path}: line {number}: {name} is in {splits[name]} already.")
            splits[name] = split
    if "train" not in splits.values():
        raise UsageError("--split: no training list among the files.", "--split train.csv --split test.csv")
    return splits


def _random(names: list[str], seed: int) -> dict[str, str]:
    test = stratified_choice({name: name.split("_")[2] for name in names}, TEST_SHARE, seed)
    return {name: "test" if name in test else "train" for name in names}


def _by_speaker(names: list[str], seed: int) -> dict[str, str]:
    test = stratified_choice(_sexes(names), TEST_SHARE, seed)
    return {name: "test" if _actor(name) in test else "train" for name in names}


def _sexes(names: Iterable[str]) -> dict[str, str]:
    """Return {actor: sex} of the clips' actors."""
    return {actor: "female" if int(actor) in WOMEN else "male" for actor in map(_actor, names)}


def _actor(name: str) -> str:
    return name.split("_")[0]
