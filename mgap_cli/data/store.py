"""The store, `prepare`'s output:

    STORE/
      clips.csv      a row a sample, in the order of the arrays: id, split, label, paths, duration, group ...
      frames.npy     (N, T, H, W, 3) uint8
      audio.npy      (N, F, L) float16, log-spectrograms
      skipped.csv    id, split, label, reason: where something was skipped
      store.json     written last: schema, classes, protocol, counts, fingerprint

A folder without a valid store.json is no store yet, whatever else lies in it.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from mgap_cli.config import DataConfig, from_dict
from mgap_cli.data.clips import SPLITS
from mgap_cli.data.features import spectrogram_shape
from mgap_cli.errors import MgapError, UnfitError

SCHEMA = "mgap-store/1"
ARRAYS = ("frames.npy", "audio.npy")
_CHUNK = 1 << 22  # bytes


@dataclass(frozen=True)
class Store:
    """An open store. N samples in the order of clips.csv; the arrays are read-only memory maps."""

    path: Path
    name: str
    classes: tuple[str, ...]
    ids: list[str]
    labels: np.ndarray  # (N,) int64, index into classes
    splits: np.ndarray  # (N,) str
    columns: dict[str, list[str]]  # clips.csv as text
    frames: np.ndarray  # (N, T, H, W, 3) uint8
    audio: np.ndarray  # (N, F, L) float16
    fingerprint: str
    data_config: DataConfig
    meta: dict[str, Any]  # store.json

    def __len__(self) -> int:
        return len(self.ids)

    def indices(self, split: str) -> np.ndarray:
        """Return the positions (n,) int64 of a split's samples, ascending; UnfitError if there are none."""
        found: np.ndarray = np.flatnonzero(self.splits == split).astype(np.int64)
        if not found.size:
            present = [s for s in SPLITS if (self.splits == s).any()]
            raise UnfitError(f"{self.path}: no samples in split {split!r}.", f"It has: {', '.join(present)}.")
        return found


def is_store(path: Path) -> bool:
    """Say whether `path` holds a finished store, going by its store.json alone."""
    return (path / "store.json").is_file()


def open_store(path: Path) -> Store:
    """Open a finished store, its arrays memory-mapped.

    UnfitError if the folder is missing or unfinished, or its parts are damaged or do not fit together.
    """
    meta = read_meta(path)
    try:
        config = from_dict({"data": meta["protocol"]}, str(path / "store.json")).data
        classes, name, fingerprint = tuple(meta["classes"]), str(meta["name"]), str(meta["fingerprint"])
        columns = _read_columns(path / "clips.csv")
        frames, audio = (np.load(path / array, mmap_mode="r") for array in ARRAYS)
        position = {label: i for i, label in enumerate(classes)}
        labels = np.array([position[label] for label in columns["label"]], np.int64)
        ids, splits = columns["id"], np.array(columns["split"], dtype=np.str_)
    except (OSError, EOFError, ValueError, KeyError, TypeError, MgapError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from error
    shapes = (len(ids), *frame_shape(config)), (len(ids), *spectrogram_shape(config))
    for array, shape, dtype, file in zip((frames, audio), shapes, ("u1", "f2"), ARRAYS, strict=True):
        if array.shape != shape or array.dtype != np.dtype(dtype):
            raise damaged(path, f"{file} is {array.dtype} {array.shape}, expected {dtype} {shape}")
    return Store(path, name, classes, ids, labels, splits, columns, frames, audio, fingerprint, config, meta)


def read_meta(path: Path) -> dict[str, Any]:
    """Return a finished store's store.json; UnfitError if there is none, or not one of ours."""
    if not path.exists():
        raise UnfitError(f"{path}: no such store.", "Make one with: mgap prepare")
    if not path.is_dir():
        raise UnfitError(f"{path}: not a store, which is a folder.")
    file = path / "store.json"
    if not file.is_file():
        raise UnfitError(
            f"{path}: not a finished store (it has no store.json).",
            "If it was interrupted, run the same mgap prepare again: it goes on where it stopped.",
        )
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(path, f"store.json cannot be read: {error}") from error
    if not isinstance(meta, dict) or meta.get("schema") != SCHEMA:
        found = meta.get("schema") if isinstance(meta, dict) else None
        raise UnfitError(f"{file}: schema {found!r}, expected {SCHEMA!r}.", "Prepare the store anew.")
    return meta


def frame_shape(config: DataConfig) -> tuple[int, int, int, int]:
    """Return (T, H, W, 3), the shape of one sample's frames."""
    return config.frames, config.frame_size, config.frame_size, 3


def table_text(rows: Iterable[Mapping[str, str]], columns: Iterable[str]) -> str:
    """Return rows as CSV text, with a header; a column that a row lacks is empty."""
    text = StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def content_fingerprint(files: Iterable[Path]) -> str:
    """Return the SHA-256 of the files' contents, in order: frames.npy, audio.npy, clips.csv."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def verify(store: Store) -> bool:
    """Say whether the files still have the content that they had when the store was made."""
    return content_fingerprint(store.path / f for f in (*ARRAYS, "clips.csv")) == store.fingerprint


def _read_columns(path: Path) -> dict[str, list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        rows = list(reader)
    if any(len(row) != len(header) for row in rows):
        raise ValueError("clips.csv has rows of unequal length")
    return {name: [row[i] for row in rows] for i, name in enumerate(header)}


def damaged(path: Path, detail: str) -> UnfitError:
    """Return the error of a store whose parts are missing, cut short or contradictory."""
    return UnfitError(f"{path}: damaged store ({detail}).", "Run mgap prepare with --force to build it anew.")
