"""Read scores from CSV and Parquet with pyarrow, a part of the rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mgap_cli.errors import UnfitError
from mgap_cli.gap.csv_text import CheckedText, line_of_record
from mgap_cli.gap.heads import Head, heads_of, require_columns
from mgap_cli.gap.score_table import order_of, probabilities_of
from mgap_cli.gap.scores import (
    FUSED,
    Scores,
    certainty_of,
    check_names,
    check_probabilities,
    check_unique,
    true_class_probability,
)
from mgap_cli.stats.arrays import FloatArray, IntArray

_ROWS = 50_000  # rows of a Parquet file that are in memory at a time
_BLOCK = 1 << 22  # bytes of a CSV file that are in memory at a time; a row must fit into it

Locator = Callable[[int], str]  # maps the number of a row, from 0, to words for its place in the file


def read_csv(path: Path, modalities: Sequence[str], columns: Collection[str] | None) -> Scores:
    """Read a CSV file of scores; see `read_scores`."""
    import pyarrow
    from pyarrow import csv

    ragged: list[Any] = []

    def refuse(row: Any) -> str:
        ragged.append(row)
        return "error"

    def opened(text: CheckedText, names: Sequence[str]) -> Any:
        return csv.open_csv(
            text,
            # pyarrow numbers the rows only with a single thread.
            csv.ReadOptions(use_threads=False, block_size=_BLOCK),
            csv.ParseOptions(newlines_in_values=True, invalid_row_handler=refuse),
            csv.ConvertOptions(
                include_columns=names,
                column_types=dict.fromkeys(names, pyarrow.string()),
                strings_can_be_null=False,
            ),
        )

    def locate(row: int) -> str:
        return f"line {line_of_record(path, row + 1)}"

    def parsed(text: CheckedText, names: Sequence[str]) -> Iterator[Any]:
        """Yield the header's names and, if columns are given, the rows of these columns."""
        try:
            reader = opened(text, names)
            yield reader.schema.names
            yield from reader if names else ()
        except pyarrow.ArrowInvalid as error:
            text.read_rest()  # a misplaced quote is the better explanation
            if ragged:
                line = locate(ragged[0].number - 2)
                fields, width = ragged[0].actual_columns, ragged[0].expected_columns
                raise UnfitError(f"{line} has {fields} fields, but the header has {width}.") from error
            raise

    with CheckedText(path) as text:
        given = next(parsed(text, ()))
    header = [name.strip() for name in given]
    require_columns(header, "id", "label")
    heads = heads_of(header, modalities)
    kept = _kept(header, heads, columns)
    with CheckedText(path) as text:
        wanted = ["id", "label", *(c for head in heads for c in head.columns), *kept]
        batches = parsed(text, [given[header.index(name)] for name in wanted])
        next(batches)
        return _collected((batch.rename_columns(wanted) for batch in batches), heads, kept, locate)


def read_parquet(path: Path, modalities: Sequence[str], columns: Collection[str] | None) -> Scores:
    """Read a Parquet file of scores; see `read_scores`."""
    from pyarrow import parquet, types

    with parquet.ParquetFile(path) as file:
        schema = file.schema_arrow
        require_columns(schema.names, "id", "label")
        nested = {field.name for field in schema if types.is_nested(field.type)}
        heads = heads_of(schema.names, modalities, nested)
        kept = [name for name in _kept(schema.names, heads, columns) if name not in nested]
        wanted = ["id", "label", *(c for head in heads for c in head.columns), *kept]
        batches = file.iter_batches(batch_size=_ROWS, columns=wanted)
        return _collected(batches, heads, kept, lambda row: f"row {row + 1}")


def _kept(header: Sequence[str], heads: Sequence[Head], columns: Collection[str] | None) -> list[str]:
    """Return the columns that are neither id, label nor scores of these heads, and that are wanted."""
    used = {"id", "label", *(name for head in heads for name in head.columns)}
    return [name for name in header if name not in used and (columns is None or name in columns)]


class _Numbering(dict[str, int]):
    """Numbers for names, in the order of their first use."""

    def __missing__(self, name: str) -> int:
        self[name] = number = len(self)
        return number


def _collected(batches: Iterable[Any], heads: Sequence[Head], kept: Sequence[str], locate: Locator) -> Scores:
    """Return the checked table of record batches; of all classes' scores it keeps only what is measured."""
    classes = next((head.classes for head in heads if head.classes), ())
    position = _Numbering({name: i for i, name in enumerate(classes)})
    ids: list[str] = []
    labels: list[IntArray] = []
    p: dict[str, list[FloatArray]] = {head.name: [] for head in heads}
    predicted: dict[str, list[IntArray]] = {head.name: [] for head in heads if head.complete}
    certainty: dict[str, list[FloatArray]] = {name: [] for name in predicted}
    columns: dict[str, list[str]] = {name: [] for name in kept}
    pool: dict[str, str] = {}  # values repeat in a column, so keep one string per value
    for batch in filter(len, batches):
        first = len(ids)

        def at(row: int, first: int = first) -> str:
            return locate(first + row)

        ids += _names(batch, "id", at).to_pylist()
        numbers = {head.name: _numbers(batch, head, at) for head in heads}
        if not position:
            widths = [numbers[head.name].shape[1] for head in heads if head.whole]
            classes = tuple(map(str, range(widths[0]))) if widths else ()
            position.update({name: i for i, name in enumerate(classes)})
        index = _indexed(_names(batch, "label", at), position, classes, at)
        labels.append(index)
        for head in heads:
            values = numbers[head.name]
            if head.complete:
                if values.shape[1] != len(classes):
                    raise UnfitError(
                        f"column {head.columns[0]!r} has {values.shape[1]} classes, others {len(classes)}."
                    )
                values = probabilities_of(head.name, head.form, values, ids[first:])
                predicted[head.name].append(values.argmax(axis=1))
                certainty[head.name].append(certainty_of(values))
                values = true_class_probability(values, index)
            p[head.name].append(values)
        for name, texts in columns.items():
            values = _texts(batch.column(name), name).to_pylist()
            texts.extend(pool.setdefault(value, value) for value in ("" if v is None else v for v in values))
    if not ids:
        raise UnfitError("no rows below the header.")
    check_names("id", ids)
    check_unique(ids)
    check_names("label", position)
    every = np.concatenate(labels)
    if not classes:  # in the order of their first occurrence
        seen = list(position)
        classes = tuple(order_of(seen))
        rank = {name: i for i, name in enumerate(classes)}
        every = np.array([rank[name] for name in seen], dtype=np.int64)[every]
    joined = {name: np.concatenate(parts) for name, parts in p.items()}
    for head in heads:
        if not head.complete:
            check_probabilities(head.name, joined[head.name], ids)
    return Scores(
        ids,
        classes,
        every,
        {name: values for name, values in joined.items() if name != FUSED},
        {name: np.concatenate(parts) for name, parts in predicted.items()},
        columns,
        joined.get(FUSED),
        {name: np.concatenate(parts) for name, parts in certainty.items()},
    )


def _names(batch: Any, column: str, at: Callable[[int], str]) -> Any:
    """Return ids or labels as text; UnfitError if one is missing, or for a type that cannot be a name."""
    from pyarrow import compute, types

    values = batch.column(column)
    of = values.type.value_type if types.is_dictionary(values.type) else values.type
    if not (types.is_string(of) or types.is_large_string(of) or types.is_integer(of)):
        raise UnfitError(
            f"column {column!r} is of type {values.type}.", "Store it as text or as whole numbers."
        )
    texts = _texts(values, column)
    _require_all(texts, column, at)
    empty = compute.index(texts, "").as_py()
    if empty >= 0:
        raise UnfitError(f"{at(empty)}: column {column!r} is empty.")
    return texts


def _require_all(values: Any, column: str, at: Callable[[int], str]) -> None:
    if values.null_count:
        row = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
        raise UnfitError(f"{at(row)}: column {column!r} has no value.")


def _texts(values: Any, column: str) -> Any:
    """Return a column as an array of text; numbers and dates in their usual notation."""
    import pyarrow
    from pyarrow import types

    if types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if types.is_boolean(values.type) or types.is_floating(values.type):  # in Python's notation, not C++'s
        return pyarrow.array([None if v is None else str(v) for v in values.to_pylist()], pyarrow.string())
    try:
        return values.cast(pyarrow.string())
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
        raise UnfitError(f"column {column!r} cannot be read as text ({values.type}).") from error


def _indexed(texts: Any, position: _Numbering, classes: Sequence[str], at: Callable[[int], str]) -> IntArray:
    """Return the (n,) class of each label; without known classes, labels are numbered in their order."""
    coded = texts.dictionary_encode()
    names = coded.dictionary.to_pylist()
    codes = coded.indices.to_numpy()
    for number, name in enumerate(names):
        if classes and name not in position:
            line = at(int(np.argmax(codes == number)))
            raise UnfitError(
                f"{line}: label {name!r} is not one of the scores' classes: {', '.join(classes[:10])}."
            )
    index: IntArray = np.array([position[name] for name in names], dtype=np.int64)[codes]
    return index


def _numbers(batch: Any, head: Head, at: Callable[[int], str]) -> FloatArray:
    """Return (n,) probabilities of the true class, or the (n, C) scores of all classes."""
    if head.whole:
        return _matrix(batch.column(head.columns[0]), head.columns[0], at)
    columns = [_floats(batch.column(name), name, at) for name in head.columns]
    return np.stack(columns, axis=1) if head.classes else columns[0]


def _floats(values: Any, column: str, at: Callable[[int], str]) -> FloatArray:
    """Return numbers, or texts of one number each, as float64."""
    import pyarrow
    from pyarrow import compute, types

    _require_all(values, column, at)
    type_, double = values.type, pyarrow.float64()
    if types.is_floating(type_) or types.is_integer(type_) or types.is_decimal(type_):
        return np.asarray(values.cast(double, safe=False).to_numpy(), dtype=np.float64)
    if not (types.is_string(type_) or types.is_large_string(type_)):
        raise UnfitError(f"column {column!r} has values that are not numbers ({type_}).")

    def cast(texts: Any) -> Any:
        try:
            return texts.cast(double)
        except pyarrow.ArrowInvalid:
            return compute.ascii_trim_whitespace(texts).cast(double)

    try:
        return np.asarray(cast(values).to_numpy(), dtype=np.float64)
    except pyarrow.ArrowInvalid:
        low, high = 0, len(values)  # the first text that is not a number is in values[low:high]
        while high - low > 1:
            middle = (low + high) // 2
            try:
                cast(values[low:middle])
                low = middle
            except pyarrow.ArrowInvalid:
                high = middle
    text = values[low].as_py()
    what = f"has {text[:40]!r}, which is not a number" if text.strip() else "is empty"
    raise UnfitError(f"{at(low)}: column {column!r} {what}.")


def _matrix(values: Any, column: str, at: Callable[[int], str]) -> FloatArray:
    """Return the (n, C) numbers of a column of lists of one length."""
    from pyarrow import compute, types

    list_type = values.type
    if not (
        types.is_list(list_type) or types.is_large_list(list_type) or types.is_fixed_size_list(list_type)
    ):
        raise UnfitError(f"column {column!r} has neither numbers nor lists of numbers ({list_type}).")
    _require_all(values, column, at)
    lengths = compute.list_value_length(values).to_numpy()
    if (lengths != lengths[0]).any():
        row = int(np.argmax(lengths != lengths[0]))
        raise UnfitError(
            f"{at(row)}: column {column!r} has {lengths[row]} values; in other rows it has {lengths[0]}."
        )
    if not lengths[0]:
        raise UnfitError(f"{at(0)}: column {column!r} has an empty list.")
    width = int(lengths[0])
    flat = compute.list_flatten(values)
    return _floats(flat, column, lambda index: at(index // width)).reshape(len(values), width)
