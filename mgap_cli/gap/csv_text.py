"""Check the bytes of a CSV file on their way to the parser, and refuse quotes that it would misread.

pyarrow reads text after a closing quote as a part of the field. It reads a quote that is never closed as a
field that reaches to the end of the file. Both lose rows without a warning. Here quotes follow RFC 4180: a
field is quoted as a whole or not at all.
"""

from __future__ import annotations

import codecs
import io
from pathlib import Path

import numpy as np

from mgap_cli.errors import UnfitError

_BOM = b"\xef\xbb\xbf"
_QUOTE, _LF, _CR = b'"\n\r'
_BESIDE = np.zeros(256, dtype=bool)  # characters that may be beside a quote, outside of the quoted text
_BESIDE[list(b',\r\n"')] = True
_BLOCK = 1 << 20


class CheckedText(io.RawIOBase):
    """The content of a CSV file without its byte order mark.

    `read` raises UnfitError at bytes that are not UTF-8, at a NUL character and at a misplaced quote.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._file = path.open("rb")
        self._start = len(_BOM) if self._file.read(len(_BOM)) == _BOM else 0
        self._file.seek(self._start)
        self._offset = self._start  # offset in the file of the next byte to read
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._last = b"\n\n"  # the last two bytes, in which a quote may lack its right neighbour
        self._quoted = False  # whether the second of these bytes is inside quoted text
        self._opened = 0  # offset of the last opening quote

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size)
        self._check(data)
        return data

    def read_rest(self) -> None:
        """Check the rest of the file."""
        while self.read(_BLOCK):
            pass

    def close(self) -> None:
        self._file.close()
        super().close()

    def _check(self, data: bytes) -> None:
        before = self._offset - len(self._decoder.getstate()[0])
        try:
            self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            line = self._line_at(before + error.start)
            raise UnfitError(
                f"line {line}: not UTF-8 text.", "Save the file as CSV text in UTF-8."
            ) from error
        if b"\0" in data:
            line = self._line_at(self._offset + data.index(b"\0"))
            raise UnfitError(f"line {line}: a NUL character.", "Save the file as CSV text in UTF-8.")
        text = self._last + (data or b"\n")
        if _QUOTE in text:
            self._check_quotes(text)
        if not data and self._quoted:
            raise UnfitError(f"line {self._line_at(self._opened)}: a quote is opened and never closed.")
        self._last = text[-2:]
        self._offset += len(data)

    def _check_quotes(self, text: bytes) -> None:
        codes = np.frombuffer(text, dtype=np.uint8)
        quotes = np.flatnonzero(codes[1:-1] == _QUOTE) + 1
        first = self._offset - len(self._last)  # offset of text[0] in the file
        opening = np.zeros(len(quotes), dtype=bool)
        opening[int(self._quoted) :: 2] = True
        fits = np.where(opening, _BESIDE[codes[quotes - 1]], _BESIDE[codes[quotes + 1]])
        if not fits.all():
            at = int(np.argmin(fits))
            line = self._line_at(first + int(quotes[at]))
            where = "before an opening" if opening[at] else "after a closing"
            raise UnfitError(
                f"line {line}: there is text {where} quote.",
                'Quote the whole field and double the quotes in it, such as "5"" screen".',
            )
        if opening.any():
            self._opened = first + int(quotes[opening][-1])
        self._quoted ^= bool(len(quotes) % 2)

    def _line_at(self, offset: int) -> int:
        return _line_at(self._path, offset)


def line_of_record(path: Path, record: int) -> int:
    """Return the line, from 1, in which a record of a well-formed CSV file begins.

    record: its number, from 0 for the header; empty lines do not count.
    """
    codes = np.fromfile(path, dtype=np.uint8)
    quoted = np.logical_xor.accumulate(codes == _QUOTE)
    ends = np.append(np.flatnonzero(((codes == _LF) | (codes == _CR)) & ~quoted), len(codes))
    begins = np.append(0, ends[:-1] + 1)
    return _line_at(path, int(begins[ends > begins][record]))


def _line_at(path: Path, offset: int) -> int:
    """Return the number of the line, from 1, that has the byte at `offset`."""
    with path.open("rb") as file:
        before = file.read(offset)
    return 1 + before.count(b"\n") + before.count(b"\r") - before.count(b"\r\n")
