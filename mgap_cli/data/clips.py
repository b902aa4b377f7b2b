"""The result of a source: clips, and the data set that they make up."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mgap_cli.config import DataConfig

SPLITS = ("train", "val", "test")
MEDIA_COLUMNS = ("id", "split", "label", "video", "audio", "start", "end", "duration", "group")


class Undecodable(Exception):
    """A clip that cannot be read; the text is the reason that the user sees."""


@dataclass(frozen=True)
class Clip:
    """One sample. `audio`: None if the sound is in the video file. `start`, `end`: in seconds; None: all."""

    id: str
    label: str
    split: str  # train | val | test
    video: Path | None = None  # a file, or a folder of frames
    audio: Path | None = None
    start: float | None = None
    end: float | None = None
    group: str = ""  # a speaker or a source video, which must not be in two splits
    extra: Mapping[str, str] = field(default_factory=dict)  # further columns of clips.csv

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(path for path in (self.video, self.audio) if path is not None)


class Reader(Protocol):
    """Reads a clip: frames (T, H, W, 3) uint8, and a mono waveform (n,) float32 at `sample_rate`."""

    def __call__(self, clip: Clip, config: DataConfig) -> tuple[np.ndarray, np.ndarray]: ...


@dataclass(frozen=True)
class Dataset:
    """Clips in the order of the store. If `reader` is None, they are media files, which decord reads."""

    name: str
    clips: Sequence[Clip]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()  # messages for the user
    options: Mapping[str, Any] = field(default_factory=dict)  # the options of the source, as plain values
    root: Path | None = None  # paths are recorded relative to it
    inputs: tuple[Path, ...] = ()  # the tables and lists that the clips were read from; never overwritten
    reader: Reader | None = None
    arrays: Mapping[str, np.ndarray] = field(
        default_factory=dict
    )  # samples by modality, instead of media files

    def recorded(self, path: Path | None) -> str:
        """Return `path` as clips.csv has it: relative to the root if it is inside the root."""
        if path is None:
            return ""
        # This works on text, because pathlib would take longer than all other work on a clip's row.
        return os.fspath(path).removeprefix(os.path.join(self.root or "", ""))  # noqa: PTH118

    def row(self, clip: Clip, duration: float | None = None) -> dict[str, str]:
        """Return the clip's row of clips.csv; `duration` in seconds."""
        return {
            "id": clip.id,
            "split": clip.split,
            "label": clip.label,
            "video": self.recorded(clip.video),
            "audio": self.recorded(clip.audio),
            "start": _seconds(clip.start),
            "end": _seconds(clip.end),
            "duration": _seconds(duration),
            "group": clip.group,
            **clip.extra,
        }

    def digest(self) -> str:
        """Return a hash of the clips and classes: data sets with the same hash make the same store."""
        rows = [list(self.row(clip).items()) for clip in self.clips]
        text = json.dumps([self.name, self.classes, rows], ensure_ascii=False)
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape"))
        for name, array in self.arrays.items():
            digest.update(f"{name} {array.shape} {array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}".rstrip("0").rstrip(".")
