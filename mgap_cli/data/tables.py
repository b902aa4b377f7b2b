"""Reads the small text tables that data sets come with: lists, annotations, manifests."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

from mgap_cli.errors import UnfitError
from mgap_cli.files import require_regular_file

LARGEST = 1 << 30  # bytes; a table of samples is far smaller, and it is read into memory


def read_text(path: Path) -> str:
    """Return the text of a file, UTF-8 with or without a byte order mark; every line ends with LF.

    UnfitError if it is missing, is larger than 1 GiB, is not text, or holds nothing; UsageError if it is a
    folder, a pipe or a device.
    """
    try:
        if path.exists():  # a missing list is a fault of the data set, not of the command line
            require_regular_file(path, "a table or a list")
        if path.stat().st_size > LARGEST:
            raise UnfitError(f"{path}: larger than {LARGEST >> 30} GiB: not a table or a list.")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UnfitError(f"{path}: no such file.") from error
    except (OSError, ValueError, MemoryError) as error:  # ValueError: not UTF-8, or a NUL in the path
        raise UnfitError(f"{path}: cannot be read as text ({str(error)[:200]}).") from error
    if not text.strip():
        raise UnfitError(f"{path}: empty file.")
    return text


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return (line number, text) of each line that is not blank; a line ends with LF, CR LF or CR."""
    lines = enumerate(StringIO(read_text(path)), 1)  # str.splitlines also breaks at U+2028 and others
    return [(number, line.strip()) for number, line in lines if line.strip()]


def read_table(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the header of a CSV file, and (line number, row) for each row.

    UnfitError if it has no rows, a column twice, or a row of another length than the header.
    """
    reader = csv.reader(StringIO(read_text(path)))
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        header = [name.strip() for name in next(reader)]
        if len(set(header)) < len(header):
            raise UnfitError(f"{path}: a column is twice in the header ({', '.join(header)[:200]}).")
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise UnfitError(
                    f"{path}: line {reader.line_num} has {len(row)} fields, the header {len(header)}."
                )
            rows.append((reader.line_num, dict(zip(header, (v.strip() for v in row), strict=True))))
    except csv.Error as error:
        raise UnfitError(f"{path}: line {reader.line_num} is not valid CSV ({error}).") from error
    if not rows:
        raise UnfitError(f"{path}: no rows below the header.")
    return header, rows
