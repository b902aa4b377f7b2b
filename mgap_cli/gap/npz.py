"""Read scores from NPZ files: plain numbers and text, and nothing that needs pickle.

A file is a zip archive of .npy arrays, as `np.savez` writes it. Each array's type, shape and size are checked
before its data are read, so that a header cannot claim more memory than the size of the archive's entry.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile, ZipFile

import numpy as np

from mgap_cli.errors import UnfitError, reason_of
from mgap_cli.gap.heads import heads_of, is_score_column, require_columns
from mgap_cli.gap.score_table import ScoreForm, table_of
from mgap_cli.gap.scores import Scores

_SUFFIX = ".npy"
# numpy's letters for types: b bool, i and u integers, f floats, U text.
_NUMBERS, _NAMES, _ANY = "iuf", "iuU", "biufU"
_WORDS = {_NUMBERS: "numbers", _NAMES: "whole numbers or text", _ANY: "numbers or text"}
_LARGEST_FLOAT = 8  # bytes: float16, float32, float64


@dataclass(frozen=True)
class _Member:
    """One array of the archive, with the facts from its header."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def read_npz(path: Path, modalities: Sequence[str], columns: Collection[str] | None) -> Scores:
    """Read an NPZ file of scores; see `read_scores`."""
    with _opened(path) as archive:
        members = {member.name: member for member in _members(archive)}
        require_columns(list(members), "label")
        label = members["label"]

        def load(name: str, type_codes: str) -> np.ndarray[Any, Any]:
            member = members[name]
            _require_type(member, type_codes)
            with archive.open(name + _SUFFIX) as file:
                return np.asarray(np.lib.format.read_array(file, allow_pickle=False))

        def vector(name: str, type_codes: str) -> np.ndarray[Any, Any]:
            if len(members[name].shape) != 1:
                raise UnfitError(f"array {name!r} has shape {members[name].shape}; expected one dimension.")
            return load(name, type_codes)

        labels = vector("label", _NAMES)
        scores: dict[str, tuple[ScoreForm, Any]] = {}
        for head in heads_of(list(members), modalities, whole=set(filter(is_score_column, members))):
            (name,) = head.columns
            shape = members[name].shape
            allowed = (2,) if head.form == "logits" else (1, 2)
            if len(shape) not in allowed or shape[0] != len(labels):
                expected = "(N, C)" if head.form == "logits" else "(N,) or (N, C)"
                raise UnfitError(
                    f"array {name!r} has shape {shape}; expected {expected} with N = {len(labels)} labels."
                )
            scores[head.name] = (head.form, load(name, _NUMBERS))
        more = {
            name: _text(name, load(name, _ANY))
            for name, member in members.items()
            if name not in ("id", "label", "classes")
            and not is_score_column(name)
            and member.shape == label.shape
            and (columns is None or name in columns)
        }
        ids, classes = (
            _text(name, vector(name, _NAMES)) if name in members else None for name in ("id", "classes")
        )
    return table_of(labels, scores, ids=ids, classes=classes, columns=more)


def _opened(path: Path) -> ZipFile:
    try:
        return ZipFile(path)
    except BadZipFile as error:
        raise UnfitError(
            "not an NPZ file, which is a zip archive of arrays.", "np.savez writes one."
        ) from error


def _members(archive: ZipFile) -> Iterator[_Member]:
    """Yield the arrays of an archive; UnfitError for a repeated name or an impossible header."""
    names: set[str] = set()
    for info in archive.infolist():
        name = info.filename.removesuffix(_SUFFIX)
        if name == info.filename:
            continue
        if name in names:
            raise UnfitError(f"two arrays are named {name!r}.", "Give each array its own name.")
        names.add(name)
        try:
            with archive.open(info) as file:
                yield _member(name, file, info.file_size)
        except UnfitError:
            raise
        except Exception as error:  # evaluating the header may raise any exception
            raise UnfitError(f"array {name!r} cannot be read ({reason_of(error)}).") from error


def _member(name: str, file: IO[bytes], size: int) -> _Member:
    """Read the header of a .npy file of `size` bytes."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(file)
    if version not in readers:  # 3.0 is for structured types alone
        raise UnfitError(f"array {name!r} is of a structured type.", "Give each field its own array.")
    shape, _, dtype = readers[version](file)
    follow = size - file.tell()
    true = min(shape, default=0) >= 0 and dtype.itemsize and math.prod(shape) * dtype.itemsize == follow
    if not (true or dtype.hasobject):
        raise UnfitError(
            f"array {name!r} is damaged: its header says {dtype} {shape}, but {follow} bytes of data follow."
        )
    return _Member(name, shape, dtype)


def _require_type(member: _Member, type_codes: str) -> None:
    code, size = member.dtype.kind, member.dtype.itemsize
    if code not in type_codes or (code == "f" and size > _LARGEST_FLOAT):
        raise UnfitError(
            f"array {member.name!r} is of type {member.dtype}; expected {_WORDS[type_codes]}.",
            "Convert it before np.savez: astype(str), astype(int) or astype(float).",
        )


def _text(name: str, values: np.ndarray[Any, Any]) -> list[str]:
    """Return the values of a one-dimensional array as text; UnfitError for text that is not Unicode."""
    try:
        texts = values.tolist() if values.dtype.kind == "U" else list(map(str, values))
        "".join(texts).encode()
    except ValueError as error:  # code points that do not exist, or halves of surrogate pairs
        raise UnfitError(f"array {name!r} has text that is not valid Unicode.") from error
    return texts
