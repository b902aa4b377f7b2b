"""Reads scores that any program wrote: CSV, NPZ or Parquet.

One row a sample: `id`, `label`, and for each modality one of

    p_<modality>            probability of the true class
    p_<modality>_<class>    probability of each class (in NPZ one array (N, C), p_<modality>)
    logits_<modality>_<class>      logit of each class (in NPZ one array (N, C), logits_<modality>)

Parquet may hold the latter two as one column of lists as well. Other columns are what is known of the
samples. Scores of `fused` give its loss and, of all classes, its predictions.
"""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from mgap_cli.errors import UnfitError, UsageError
from mgap_cli.gap.scores import (
    FloatArray,
    IntArray,
    certainty_of,
    check_probabilities,
    check_unique,
    true_class_probability,
)
from mgap_cli.gap.table import (
    FUSED,
    Kind,
    ScoreTable,
    order_of,
    probabilities_of,
    require_two,
    table_of,
)

SUFFIXES = (".csv", ".npz", ".parquet")
_ROWS = 50_000  # of a CSV file that are in memory as text at a time
_NAME = re.compile(r"(?P<kind>p|logits)_(?P<name>.+)")
_PIP = "pip install 'mgap[parquet]'"


def is_scores(path: Path) -> bool:
    """Say whether a path is named like a file of scores."""
    return path.suffix.lower() in SUFFIXES


def read_scores(
    path: Path, modalities: Sequence[str] = (), columns: Collection[str] | None = None
) -> ScoreTable:
    """Read a file of scores; `columns` are the other columns to keep, all by default.

    Without `modalities` they are what the file's names say, in their order; a number at the end of
    a name is a class. Raises UnfitError for a file that is missing, damaged or lacks a column, and for
    scores that are none, as `ScoreTable` does; UsageError for fewer than two modalities.
    """
    if not path.is_file():
        raise UnfitError(f"{path}: no such file.")
    reader = {".csv": _read_csv, ".npz": _read_npz, ".parquet": _read_parquet}[path.suffix.lower()]
    try:
        return reader(path, modalities, columns)
    except (UnfitError, UsageError) as error:
        if error.message.startswith(str(path)):
            raise
        raise type(error)(f"{path}: {error.message}", error.hint) from error


@dataclass(frozen=True)
class _Head:
    """Where a head's scores are: one column of true-class probabilities, or one for each of `classes`."""

    name: str
    kind: Kind
    columns: list[int]
    classes: tuple[str, ...]  # empty: true-class probabilities


def _heads(header: Sequence[str], modalities: Sequence[str]) -> list[_Head]:
    """Return the heads that column names speak of: `modalities` and fused, or whatever there is."""
    position = {name: i for i, name in enumerate(header)}
    found: list[_Head] = []
    for name in [*modalities, FUSED] if modalities else _names(header):
        single = f"p_{name}"
        many = {k: [c for c in header if c.startswith(f"{k}_{name}_")] for k in ("p", "logits")}
        kind: Kind = "p" if many["p"] else "logits"
        if single in position:
            found.append(_Head(name, "p", [position[single]], ()))
        elif many[kind]:
            classes = tuple(c.removeprefix(f"{kind}_{name}_") for c in many[kind])
            found.append(_Head(name, kind, [position[c] for c in many[kind]], classes))
        elif name != FUSED:
            raise UnfitError(
                f"no column p_{name}, p_{name}_<class> or logits_{name}_<class>.", _columns(header)
            )
    if len({head.classes for head in found if head.classes}) > 1:
        raise UnfitError("the heads' columns name different classes, or in another order.")
    require_two([head.name for head in found if head.name != FUSED])
    return found


def _names(header: Sequence[str]) -> list[str]:
    """Return the names of the heads in a header, without numbers of classes at their ends."""
    names: list[str] = []
    for match in filter(None, map(_NAME.fullmatch, header)):
        name = re.sub(r"_\d+$", "", match["name"])
        if match["kind"] == "logits" and name == match["name"]:
            raise UsageError(
                f"column {match[0]}: its name does not say where the modality ends and the class begins.",
                "Name the modalities, such as --modalities audio,visual.",
            )
        names.append(name)
    found = list(dict.fromkeys(names))
    if len([name for name in found if name != FUSED]) < 2:
        raise UnfitError(
            "a gap takes two modalities, with columns such as p_audio and p_visual.", _columns(header)
        )
    return found


def _columns(header: Sequence[str]) -> str:
    shown = ", ".join(map(repr, header[:12]))
    return f"Its columns: {shown}{', ...' if len(header) > 12 else ''}."


def _require(header: Sequence[str], *names: str) -> None:
    for name in names:
        if name not in header:
            raise UnfitError(f"no column {name!r}.", _columns(header))
    if len(set(header)) < len(header):
        twice = next(name for name in header if list(header).count(name) > 1)
        raise UnfitError(f"column {twice!r} stands twice in the header.")


def _kept(header: Sequence[str], heads: Sequence[_Head], columns: Collection[str] | None) -> dict[str, int]:
    """Return the positions of the columns that are neither id, label nor scores, and that are wanted."""
    used = {i for head in heads for i in head.columns}
    return {
        name: i
        for i, name in enumerate(header)
        if i not in used and name not in ("id", "label") and (columns is None or name in columns)
    }


class _Collected:
    """Rows of text, gathered into arrays a chunk at a time."""

    def __init__(self, heads: Sequence[_Head], kept: Sequence[str]) -> None:
        self.heads = heads
        self.classes = next((head.classes for head in heads if head.classes), ())
        self.position: dict[str, int] = _Numbering({name: i for i, name in enumerate(self.classes)})
        self.ids: list[str] = []
        self.labels: list[IntArray] = []
        self.p: dict[str, list[FloatArray]] = {head.name: [] for head in heads}
        self.predicted: dict[str, list[IntArray]] = {head.name: [] for head in heads if head.classes}
        self.certainty: dict[str, list[FloatArray]] = {name: [] for name in self.predicted}
        self.columns: dict[str, list[str]] = {name: [] for name in kept}
        self.pool: dict[str, str] = {}  # a column repeats its values: one string each

    def add(
        self, ids: Sequence[str], labels: Sequence[str], scores: list[list[FloatArray]], *kept: Sequence[str]
    ) -> None:
        """Add a chunk: for each head its columns of numbers, for each kept column its text."""
        index = np.fromiter(map(self.position.__getitem__, labels), np.int64, len(labels))
        if self.classes and len(self.position) > len(self.classes):
            unknown = next(name for name in labels if self.position[name] >= len(self.classes))
            raise UnfitError(
                f"label {unknown!r} is none of the classes that the columns name: "
                f"{', '.join(self.classes[:10])}."
            )
        for head, numbers in zip(self.heads, scores, strict=True):
            if head.classes:
                full = probabilities_of(head.name, head.kind, np.stack(numbers, axis=1), ids)
                p = true_class_probability(full, index)
                self.predicted[head.name].append(full.argmax(axis=1))
                self.certainty[head.name].append(certainty_of(full))
            else:
                (p,) = numbers
            self.p[head.name].append(p)
        self.ids += ids
        self.labels.append(index)
        for values, texts in zip(self.columns.values(), kept, strict=True):
            values.extend(map(self.pool.setdefault, texts, texts))

    def table(self) -> ScoreTable:
        """Return all of it, checked."""
        check_unique(self.ids)
        for what, names in (("id", self.ids), ("label", self.position)):
            if "" in names:
                raise UnfitError(f"a sample has no {what}: its field is empty.")
        labels = np.concatenate(self.labels)
        classes = list(self.classes)
        if not classes:  # in the order in which they came
            seen = list(self.position)
            classes = order_of(seen)
            rank = {name: i for i, name in enumerate(classes)}
            labels = np.array([rank[name] for name in seen], dtype=np.int64)[labels]
        p = {name: np.concatenate(parts) for name, parts in self.p.items()}
        for head in self.heads:
            if not head.classes:
                check_probabilities(head.name, p[head.name], self.ids)
        p_fused = p.pop(FUSED, None)
        predicted = {name: np.concatenate(parts) for name, parts in self.predicted.items()}
        certainty = {name: np.concatenate(parts) for name, parts in self.certainty.items()}
        return ScoreTable(self.ids, tuple(classes), labels, p, predicted, self.columns, p_fused, certainty)


class _Numbering(dict[str, int]):
    """Numbers names in the order in which they are first asked for."""

    def __missing__(self, name: str) -> int:
        self[name] = number = len(self)
        return number


def _read_csv(path: Path, modalities: Sequence[str], columns: Collection[str] | None) -> ScoreTable:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = [name.strip() for name in next(csv.reader(file), [])]
            if not header:
                raise UnfitError("empty file.")
            _require(header, "id", "label")
            heads = _heads(header, modalities)
            kept = _kept(header, heads, columns)
            collected = _Collected(heads, list(kept))
            for first, cells in _chunks(file, len(header)):
                scores = [[_numbers(cells[i], header[i], first) for i in head.columns] for head in heads]
                ids, labels = cells[header.index("id")], cells[header.index("label")]
                collected.add(ids, labels, scores, *(cells[i] for i in kept.values()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UnfitError(f"cannot be read as CSV ({error}).") from error
    if not collected.ids:
        raise UnfitError("no rows below the header.")
    return collected.table()


def _chunks(file: TextIO, width: int) -> Iterator[tuple[int, list[Sequence[str]]]]:
    """Yield (number of the first row, columns of text), `width` columns; empty lines are no rows.

    Lines without quotes are split at their commas, all at once, which takes a third of csv's time. From
    the first quote on it is csv's.
    """
    first = 1
    while lines := list(islice(file, _ROWS)):
        text = "".join(lines)
        if '"' in text:
            yield from _quoted_chunks(csv.reader(chain(lines, file)), width, first)
            return
        rows = [row for row in text.splitlines() if row]
        if set(map(str.count, rows, repeat(","))) - {width - 1}:
            odd = next(i for i, row in enumerate(rows) if row.count(",") != width - 1)
            raise _ragged(first + odd, rows[odd].count(",") + 1, width)
        cells = ",".join(rows).split(",")
        if rows:
            yield first, [cells[i::width] for i in range(width)]
        first += len(rows)


def _quoted_chunks(
    reader: Iterator[list[str]], width: int, first: int
) -> Iterator[tuple[int, list[Sequence[str]]]]:
    rows = filter(None, reader)
    while chunk := list(islice(rows, _ROWS)):
        for number, row in enumerate(chunk, first):
            if len(row) != width:
                raise _ragged(number, len(row), width)
        yield first, list(zip(*chunk, strict=True))
        first += len(chunk)


def _ragged(row: int, fields: int, width: int) -> UnfitError:
    return UnfitError(f"row {row} has {fields} fields, the header {width}.")


def _numbers(texts: Sequence[str], column: str, first: int) -> FloatArray:
    # Three times as fast as float(); at what is no number it stops, with a warning or an error.
    with warnings.catch_warnings(), suppress(ValueError):
        warnings.simplefilter("ignore")
        numbers = np.fromstring(",".join(texts), sep=",")
        if len(numbers) == len(texts):
            return numbers
    for row, text in enumerate(texts, first):
        try:
            float(text)
        except ValueError:
            what = "is empty" if not text.strip() else f"holds {text!r}, which is no number"
            raise UnfitError(f"row {row}: column {column} {what}.") from None
    return np.array(list(map(float, texts)))


def _read_npz(path: Path, modalities: Sequence[str], columns: Collection[str] | None) -> ScoreTable:
    import zipfile

    try:
        with np.load(path, allow_pickle=False) as file:
            wanted = {"id", "label", "classes"} | (set(file.files) if columns is None else set(columns))
            named = {name: _NAME.fullmatch(name) for name in file.files}
            arrays = {name: file[name] for name in file.files if name in wanted or named[name]}
    except ValueError as error:  # numpy's message advises to load it unsafely
        hint = "np.savez writes it; texts are of type str, not object."
        raise UnfitError("no NPZ file of plain numbers and texts.", hint) from error
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        raise UnfitError(f"cannot be read as NPZ ({error}).", "np.savez writes one.") from error
    names = list(arrays)
    _require(names, "label")
    scores: dict[str, tuple[Kind, Any]] = {}
    for name, match in named.items():
        if match and (not modalities or match["name"] in (*modalities, FUSED)):
            kind: Kind = "p" if match["kind"] == "p" else "logits"
            if kind == "logits" and arrays[name].ndim != 2:
                raise UnfitError(f"{name} has shape {arrays[name].shape}; logits are (N, C).")
            scores[match["name"]] = (kind, arrays[name])
    for name in modalities:
        if name not in scores:
            raise UnfitError(f"no array p_{name} or logits_{name}.", _columns(names))
    ordered = {name: scores[name] for name in [*modalities, *(s for s in scores if s not in modalities)]}
    if len([name for name in ordered if name != FUSED]) < 2:
        raise UnfitError(
            "a gap takes two modalities, with arrays such as p_audio and p_visual.", _columns(names)
        )
    n = len(arrays["label"])
    more = {
        name: [str(v) for v in values]
        for name, values in arrays.items()
        if not named[name] and name not in ("id", "label", "classes") and values.shape == (n,)
    }
    return table_of(
        arrays["label"],
        ordered,
        ids=arrays["id"].tolist() if "id" in arrays else None,
        classes=arrays["classes"].tolist() if "classes" in arrays else None,
        columns=more,
    )


def _read_parquet(path: Path, modalities: Sequence[str], columns: Collection[str] | None) -> ScoreTable:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError("reading Parquet takes pyarrow, which is not installed.", _PIP) from error
    try:
        file = pyarrow.parquet.ParquetFile(path)
        header = file.schema_arrow.names
        _require(header, "id", "label")
        table = file.read()
    except (OSError, pyarrow.ArrowException) as error:
        raise UnfitError(f"cannot be read as Parquet ({error}).") from error
    if not table.num_rows:
        raise UnfitError("no rows.")
    for name in header:
        if table[name].null_count and (name in ("id", "label") or _NAME.fullmatch(name)):
            raise UnfitError(f"{table[name].null_count} of {table.num_rows} values of {name} are missing.")
    nested = [name for name in header if pyarrow.types.is_nested(table.schema.field(name).type)]
    more = {
        name: ["" if v is None else str(v) for v in table[name].to_pylist()]
        for name in header
        if name not in ("id", "label", *nested)
        and not _NAME.fullmatch(name)
        and (columns is None or name in columns)
    }
    ids = list(map(str, table["id"].to_pylist()))
    if nested:
        scores: dict[str, tuple[Kind, Any]] = {}
        for match in filter(None, map(_NAME.fullmatch, header)):
            if not modalities or match["name"] in (*modalities, FUSED):
                kind: Kind = "p" if match["kind"] == "p" else "logits"
                scores[match["name"]] = (kind, _matrix(table[match[0]], match[0]))
        return table_of(table["label"].to_numpy(), scores, ids=ids, columns=more)
    heads = _heads(header, modalities)
    numbers = [[_floats(table[header[i]], header[i]) for i in head.columns] for head in heads]
    collected = _Collected(heads, list(more))
    collected.add(ids, list(map(str, table["label"].to_pylist())), numbers, *more.values())
    return collected.table()


def _floats(column: Any, name: str) -> FloatArray:
    try:
        return np.asarray(column.to_numpy(), dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise UnfitError(f"column {name} does not hold numbers ({column.type}).") from error


def _matrix(column: Any, name: str) -> FloatArray:
    """Return (N,) numbers, or (N, C) of a column of lists of one length."""
    rows = column.to_numpy()
    if rows.dtype != object:
        return np.asarray(rows, dtype=np.float64)
    if len({len(row) for row in rows}) > 1:
        raise UnfitError(f"column {name}: its lists differ in length.")
    return np.stack(rows).astype(np.float64)
