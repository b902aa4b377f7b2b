"""Read small text tables: the lists and annotations of data sets, manifests, lists of samples, votes."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from mgap_cli.errors import UnfitError, reason_of
from mgap_cli.files import require_regular_file

LARGEST = 1 << 30  # bytes; a table of samples is far smaller, and it is read into memory
_SAVE_AS = "Save the file as text in UTF-8."
_LINE_END = re.compile(r"\r\n|\r|\n")  # str.splitlines also splits at U+2028, which names may have


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, with or without a byte order mark; line ends are unchanged.

    Raises UnfitError if it is missing, is larger than 1 GiB, is not text, or is empty; UsageError if it is a
    folder, a pipe or a device.
    """
    try:
        if path.exists():
            require_regular_file(path, "a text file")
        if path.stat().st_size > LARGEST:
            raise UnfitError(f"{path}: larger than {LARGEST >> 30} GiB: not a table or a list.")
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UnfitError(f"{path}: no such file.") from error
    except (OSError, ValueError, MemoryError) as error:  # ValueError: not UTF-8, or a path with a NUL
        raise UnfitError(f"{path}: cannot be read as text ({reason_of(error)}).", _SAVE_AS) from error
    if not text.strip():
        raise UnfitError(f"{path}: empty file.")
    if "\0" in text:
        line = 1 + len(_LINE_END.findall(text[: text.index("\0")]))
        raise UnfitError(f"{path}: line {line}: a NUL character.", _SAVE_AS)
    return text


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return (line number, text) of each line that is not blank."""
    lines = enumerate(_LINE_END.split(read_text(path)), 1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def read_table(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the header of a CSV file, and (line number, row) for each row; empty lines are skipped.

    The number is that of the line in which the row begins, because a quoted field may have line breaks.
    Raises UnfitError if there are no rows, if two columns have the same name, if a row and the header differ
    in length, or for misplaced quotes.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    header: list[str] = []
    rows: list[tuple[int, dict[str, str]]] = []
    line = 1
    try:
        for row in reader:
            if row and not header:
                header = [name.strip() for name in row]
            elif row:
                if len(row) != len(header):
                    raise UnfitError(
                        f"{path}: line {line} has {len(row)} fields, but the header has {len(header)}."
                    )
                rows.append((line, dict(zip(header, (v.strip() for v in row), strict=True))))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UnfitError(f"{path}: line {line} is not valid CSV ({reason_of(error)}).") from error
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise UnfitError(f"{path}: two columns are named {twice!r}.", "Give each column its own name.")
    if not rows:
        raise UnfitError(f"{path}: no rows below the header.")
    return header, rows
