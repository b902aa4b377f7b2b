"""Reads the small text tables that data sets come with: lists, annotations, manifests."""

from __future__ import annotations

import csv
from pathlib import Path

from mgap_cli.errors import UnfitError


def read_text(path: Path) -> str:
    """Return the text of a file, UTF-8 with or without a byte order mark.

    UnfitError if it is missing, is not text, or holds nothing.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UnfitError(f"{path}: no such file.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UnfitError(f"{path}: cannot be read as text ({error}).") from error
    if not text.strip():
        raise UnfitError(f"{path}: empty file.")
    return text


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return (line number, text) of each line that is not blank."""
    lines = enumerate(read_text(path).splitlines(), 1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def read_table(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the header of a CSV file, and (line number, row) for each row.

    UnfitError if it has no rows, a column twice, or a row of another length than the header.
    """
    reader = csv.reader(read_text(path).splitlines(keepends=True))
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        header = [name.strip() for name in next(reader)]
        if len(set(header)) < len(header):
            raise UnfitError(f"{path}: a column stands twice in the header ({', '.join(header)}).")
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
