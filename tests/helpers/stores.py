"""Small stores with all that `inspect` must find: leaks, groups, skipped clips, hostile names."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from mgap_cli.config import DataConfig
from mgap_cli.data.clips import Clip, Dataset, Undecodable
from mgap_cli.data.prepare.build import build_store
from mgap_cli.data.sources import load_dataset
from mgap_cli.output import Output

PROTOCOL = DataConfig(frames=2, frame_size=16, sample_rate=8000, seconds=0.5, n_fft=128, hop=64, val_share=0)
CLASSES = ("Bark", "Male speech, man speaking", "[red]$x$[/red]")
LISTS = {  # video ids; a, b are in train and test, c in train and val, d twice in train
    "train": "a b c d d e f g h i j k l m n o",
    "val": "c p q r",
    "test": "a b s t",
}
UNREADABLE = {"o": "no audio stream", "r": "no audio stream", "t": "[bold]cut short[/bold]"}


def read(clip: Clip, config: DataConfig) -> tuple[np.ndarray, np.ndarray]:
    """Make a clip from its id: the left half is red in the first frame and green in the second; a 1 kHz tone.

    The tone lasts 0.3 s, and 0.7 s for ids that begin with a vowel.
    """
    if reason := UNREADABLE.get(clip.id[0]):
        raise Undecodable(reason)
    frames = np.zeros((config.frames, config.frame_size, config.frame_size, 3), np.uint8)
    for t in range(config.frames):
        frames[t, :, : config.frame_size // 2, t % 3] = 255
    seconds = 0.7 if clip.id[0] in "aeiou" else 0.3
    time = np.arange(round(seconds * config.sample_rate)) / config.sample_rate
    return frames, np.sin(2000 * np.pi * time).astype(np.float32)


def ave_store(folder: Path, *, keep_leaks: bool) -> Path:
    """Make a store from LISTS in AVE's layout, and return its folder."""
    root = folder / "ave"
    root.mkdir(parents=True)
    for split, ids in LISTS.items():
        lines = [f"{CLASSES[ord(name) % 3]}&{name}&good&0&10\n" for name in ids.split()]
        (root / f"{split}Set.txt").write_text("".join(lines))
    dataset = load_dataset("ave", root, PROTOCOL, keep_leaks=keep_leaks)
    return made(dataclasses.replace(dataset, reader=read), folder / "store")


def made(dataset: Dataset, folder: Path, config: DataConfig = PROTOCOL) -> Path:
    """Build a store without output; skipped clips are allowed."""
    return build_store(dataset, config, folder, Output(quiet=True), allow_skips=True).path


def many(clips: int, classes: int, groups: int) -> Dataset:
    """Return a data set with long names and without leaks."""
    made_up = [
        Clip(
            f"b/a/long/folder/of/clips/[bold]{i:05}",
            f"a class whose name is [red]far[/red] too long for any column {i % classes}",
            "test" if i % groups % 4 == 3 else "train",
            group=f"speaker {i % groups} of a very long institution's name, really very long",
        )
        for i in range(clips)
    ]
    return Dataset("many", made_up, tuple(sorted({clip.label for clip in made_up})), reader=read)
