"""The store: the folder that `prepare` writes.

    STORE/
      clips.csv      one row per sample, in the order of the arrays: id, split, label, paths, duration ...
      frames.npy     (N, T, H, W, 3) uint8
      audio.npy      (N, F, L) float16, log-spectrograms
      skipped.csv    id, split, label, reason: only if clips were skipped
      NAME.npy       (N, D) or (N, T, D), float: in place of frames and audio, one file per listed modality
      store.json     written last: schema, classes, protocol, counts, hashes of the files, fingerprint
      .lock held while a `prepare` writes here; its text marks the folder as one of mgap

A folder without a valid store.json is not a store yet, even if it has the other files.

The fingerprint is a hash of the schema, the classes in their order, the protocol, and the hashes of
clips.csv and the arrays. Opening a store computes it again from store.json. This takes no time and finds an
edited class or protocol; `verify` also reads the files.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from mgap_cli.config import DataConfig, from_dict
from mgap_cli.data.clips import MEDIA_COLUMNS, SPLITS
from mgap_cli.data.media.spectrograms import spectrogram_shape
from mgap_cli.errors import UnfitError
from mgap_cli.files import require_regular_file
from mgap_cli.modalities.audio_visual import AUDIO, AUDIO_VISUAL, VISUAL
from mgap_cli.modalities.features import array_modality
from mgap_cli.modalities.modality import Modality

SCHEMA_FAMILY = "mgap-store/"
LISTED_SCHEMA = f"{SCHEMA_FAMILY}3"  # `modalities` lists what the store has, instead of the built-in pair
SCHEMA = f"{SCHEMA_FAMILY}2"  # 2: sound is resampled by soxr and follows the video's clock; see CHANGELOG
ARRAYS = ("frames.npy", "audio.npy")
CONTENT = (*ARRAYS, "clips.csv")  # the files that the fingerprint covers beside store.json
PARTS = (*CONTENT, "skipped.csv", "store.json")
SKIPPED_COLUMNS = ("id", "split", "label", "reason")
MODALITY_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,40}")  # used as a file name and in names of columns
# Settings of the section data that earlier versions did not have. A store records them only if they are not
# the defaults, so that the same clips have the same fingerprint in both versions.
LATER_SETTINGS = ("candidates", "crop", "audio", "mel_bins")
_CHUNK = 1 << 22  # bytes
_TEXTS = ("name", "clips", "fingerprint", "version")


@dataclass(frozen=True)
class Store:
    """An open store with N samples in the order of clips.csv. The arrays are read-only memory maps."""

    path: Path
    name: str
    classes: tuple[str, ...]
    ids: list[str]
    labels: np.ndarray  # (N,) int64, index into classes
    splits: np.ndarray  # (N,) str
    columns: dict[str, list[str]]  # clips.csv as text
    arrays: dict[str, np.ndarray]  # by modality: audio (N, F, L) float16, visual (N, T, H, W, 3) uint8 ...
    fingerprint: str
    data_config: DataConfig
    meta: dict[str, Any]  # store.json

    modalities: tuple[Modality, ...] = AUDIO_VISUAL

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def preset(self) -> str:
        """Return the preset of the protocol; a data set's default preset has its name."""
        return str(self.meta.get("source", {}).get("options", {}).get("preset", self.name))

    @property
    def frames(self) -> np.ndarray:
        """Return the frames (N, T, H, W, 3) uint8 of a store of the built-in pair."""
        return self.arrays[VISUAL.name]

    @property
    def audio(self) -> np.ndarray:
        """Return the log-spectrograms (N, F, L) float16 of a store of the built-in pair."""
        return self.arrays[AUDIO.name]

    def indices(self, split: str) -> np.ndarray:
        """Return the positions (n,) int64 of a split's samples, ascending; UnfitError if there are none."""
        found: np.ndarray = np.flatnonzero(self.splits == split).astype(np.int64)
        if not found.size:
            present = [s for s in SPLITS if (self.splits == s).any()]
            raise UnfitError(f"{self.path}: no samples in split {split!r}.", f"It has: {', '.join(present)}.")
        return found


def is_store(path: Path) -> bool:
    """Return whether `path` is a finished store, according to its store.json."""
    return (path / "store.json").is_file()


def open_store(path: Path) -> Store:
    """Open a finished store with memory-mapped arrays.

    UnfitError if the folder is missing or unfinished, if an earlier version of mgap made it, or if its parts
    are damaged or do not fit together.
    """
    meta = read_meta(path)
    try:
        config = from_dict({"data": meta["protocol"]}, str(path / "store.json")).data
        columns = _read_columns(path / "clips.csv")
        classes = tuple(meta["classes"])
        position = {label: i for i, label in enumerate(classes)}
        labels = np.array([position[label] for label in columns["label"]], np.int64)
        ids, splits = columns["id"], np.array(columns["split"], dtype=np.str_)
        modalities: tuple[Modality, ...] = AUDIO_VISUAL
        arrays: dict[str, np.ndarray] = {}
        if meta["schema"] == LISTED_SCHEMA:
            modalities = tuple(array_modality(m["name"], tuple(m["shape"])) for m in meta["modalities"])
            for m in meta["modalities"]:
                shape = (len(ids), *m["shape"])
                arrays[m["name"]] = _open_array(path / f"{m['name']}.npy", shape, m["dtype"])
        else:
            arrays[AUDIO.name] = _open_array(path / ARRAYS[1], (len(ids), *spectrogram_shape(config)), "<f2")
            arrays[VISUAL.name] = _open_array(path / ARRAYS[0], (len(ids), *frame_shape(config)), "u1")
    except Exception as error:  # a damaged file may raise any exception, even MemoryError and RecursionError
        raise damaged(path, _detail(error)) from error
    name, fingerprint = meta["name"], meta["fingerprint"]
    return Store(
        path, name, classes, ids, labels, splits, columns, arrays, fingerprint, config, meta, modalities
    )


def read_meta(path: Path) -> dict[str, Any]:
    """Return a finished store's store.json, its fields checked.

    Raises UnfitError if it is missing, damaged or edited, or if it has another schema than this version.
    """
    if not path.exists():
        raise UnfitError(f"{path}: no such store.", "Make one with: mgap prepare")
    if not path.is_dir():
        raise UnfitError(f"{path}: not a store, because it is not a folder.")
    file = path / "store.json"
    if not file.is_file():
        raise UnfitError(
            f"{path}: not a finished store (it has no store.json).",
            "If it was interrupted, run the same mgap prepare again: it continues where it stopped.",
        )
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
    except Exception as error:  # RecursionError and MemoryError included
        raise damaged(path, f"store.json cannot be read: {_detail(error)}") from error
    schema = meta.get("schema") if isinstance(meta, dict) else None
    if schema not in (SCHEMA, LISTED_SCHEMA):
        known = isinstance(schema, str) and schema.startswith(SCHEMA_FAMILY)
        reason = "made by another version of mgap" if known else "not a store of mgap"
        raise UnfitError(
            f"{file}: {reason} (schema {str(schema)[:40]!r}; this version reads {SCHEMA!r} and "
            f"{LISTED_SCHEMA!r}).",
            f"Prepare the data set again: mgap prepare ... -o {path} --force" if known else "",
        )
    if defect := meta_defect(meta):
        raise damaged(path, f"store.json: {defect}")
    return dict(meta)


def meta_defect(meta: Mapping[str, Any]) -> str:
    """Return what is wrong with a store.json (a field's type, or the fingerprint), or "" if nothing is."""
    for name in _TEXTS:
        if not isinstance(meta.get(name), str):
            return f"{name!r} is not text"
    classes, protocol, contents = (meta.get(name) for name in ("classes", "protocol", "contents"))
    if not _is_texts(classes) or not classes or len(set(classes)) < len(classes):
        return "'classes' is not a list of different names"
    settings = {f.name for f in dataclasses.fields(DataConfig)}
    if not isinstance(protocol, dict) or not settings - {*LATER_SETTINGS} <= protocol.keys() <= settings:
        return "'protocol' does not have exactly the settings of the section data"
    if meta["schema"] == LISTED_SCHEMA and not _are_modalities(meta.get("modalities")):
        return "'modalities' is not a list of name, kind, shape and dtype"
    if (
        not isinstance(contents, dict)
        or contents.keys() != {*content_files(meta)}
        or not _is_texts([*contents.values()])
    ):
        return "'contents' is not a hash for each file"
    source, counts, skipped = (meta.get(name) for name in ("source", "counts", "skipped"))
    if not isinstance(source, dict) or not isinstance(source.get("root"), str):
        return "'source' has no root"
    if not isinstance(source.get("options"), dict):
        return "'source' has no options"
    if not isinstance(counts, dict) or any(type(count) is not int for count in counts.values()):
        return "'counts' is not a number for each split"
    if not isinstance(skipped, list) or not all(_is_skip(row) for row in skipped):
        return f"'skipped' is not a list of {', '.join(SKIPPED_COLUMNS)}"
    if not _is_texts(meta.get("notes")):
        return "'notes' is not a list of texts"
    if fingerprint_of(classes, protocol, contents, meta.get("modalities")) != meta["fingerprint"]:
        return "classes, protocol or hashes were edited (the fingerprint differs)"
    return ""


def content_files(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the files that a store's fingerprint covers beside store.json."""
    if meta["schema"] == LISTED_SCHEMA:
        return (*(f"{m['name']}.npy" for m in meta["modalities"]), "clips.csv")
    return CONTENT


def plain_protocol(config: DataConfig) -> dict[str, Any]:
    """Return every setting of a protocol with JSON's types."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def recorded_protocol(config: DataConfig) -> dict[str, Any]:
    """Return a protocol for store.json, without settings of later versions that have their defaults."""
    defaults = plain_protocol(DataConfig())
    return {
        key: value
        for key, value in plain_protocol(config).items()
        if key not in LATER_SETTINGS or value != defaults[key]
    }


def frame_shape(config: DataConfig) -> tuple[int, int, int, int]:
    """Return (T, H, W, 3), the shape of one sample's frames."""
    return config.stored_frames, config.frame_size, config.frame_size, 3


def table_text(rows: Iterable[Mapping[str, str]], columns: Iterable[str]) -> str:
    """Return rows as CSV text, with a header; a column that a row lacks is empty."""
    text = StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def content_hashes(files: Mapping[str, Path]) -> dict[str, str]:
    """Return {name in the store: SHA-256 of the file}, in hexadecimal. OSError if one cannot be read."""
    return {name: _file_hash(path) for name, path in files.items()}


def fingerprint_of(
    classes: Sequence[str],
    protocol: Mapping[str, Any],
    contents: Mapping[str, str],
    modalities: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """Return the fingerprint (SHA-256, hexadecimal) for these classes, protocol and file hashes.

    modalities: those that a store lists; None for the built-in pair.
    """
    document: dict[str, Any] = {"schema": SCHEMA if modalities is None else LISTED_SCHEMA}
    document |= {"classes": list(classes), "protocol": protocol, "contents": contents}
    if modalities is not None:
        document["modalities"] = modalities
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def changed_files(store: Store) -> list[str]:
    """Read all of a store; return the names of the files whose content is not what `prepare` wrote.

    UnfitError if a file cannot be read.
    """
    try:
        found = content_hashes({name: store.path / name for name in content_files(store.meta)})
    except OSError as error:
        raise damaged(store.path, _detail(error)) from error
    return [name for name in content_files(store.meta) if found[name] != store.meta["contents"][name]]


def verify(store: Store) -> bool:
    """Return whether the files still have the content that `prepare` wrote. It reads all of them."""
    return not changed_files(store)


def _file_hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _read_columns(path: Path) -> dict[str, list[str]]:
    require_regular_file(path, "a table")
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        rows = list(reader)
    if len(set(header)) < len(header):
        raise ValueError("clips.csv has a column twice")
    if any(len(row) != len(header) for row in rows):
        raise ValueError("clips.csv has rows of unequal length")
    columns = {name: [row[i] for row in rows] for i, name in enumerate(header)}
    if lacking := [name for name in MEDIA_COLUMNS if name not in columns]:
        raise ValueError(f"clips.csv has no column {', '.join(lacking)}")
    return columns


def _open_array(path: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return a .npy file's array as a read-only memory map, after a check of its header and size.

    The header is only compared with the expected one, so a false header cannot make the program map or
    reserve memory. Raises ValueError, or numpy's error for an invalid header.
    """
    require_regular_file(path, "an array")
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"{path.name} has .npy format {version}, expected (1, 0)")
        found, fortran, kind = np.lib.format.read_array_header_1_0(file)
        offset, size = file.tell(), os.fstat(file.fileno()).st_size
    wanted = np.dtype(dtype)
    if (found, fortran, kind) != (shape, False, wanted):
        raise ValueError(f"{path.name} is {kind} {str(found)[:80]}, expected {wanted} {shape}")
    expected = offset + math.prod(shape) * wanted.itemsize
    if size != expected:
        raise ValueError(f"{path.name} has {size} bytes, expected {expected}")
    if not shape[0]:
        return np.empty(shape, wanted)  # an empty file cannot be mapped
    return np.memmap(path, wanted, "r", offset, shape)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _are_modalities(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(map(_is_modality, value))


def _is_modality(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"name", "kind", "shape", "dtype"}
        and isinstance(value["name"], str)
        and MODALITY_NAME.fullmatch(value["name"]) is not None
        and isinstance(value["shape"], list)
        and all(type(size) is int and size > 0 for size in value["shape"])
        and value["dtype"] in ("<f2", "<f4")
    )


def _is_skip(row: Any) -> bool:
    return isinstance(row, dict) and row.keys() == {*SKIPPED_COLUMNS} and _is_texts([*row.values()])


def _detail(error: BaseException) -> str:
    """Return an error on one line, short enough for a message."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def damaged(path: Path, detail: str) -> UnfitError:
    """Return the error for a store whose parts are missing, cut short or contradictory."""
    return UnfitError(f"{path}: damaged store ({detail}).", "Build it again: run mgap prepare with --force.")
