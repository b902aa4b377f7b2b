"""A preallocated .npy file that is written row by row, in any order and by several processes.

It uses reads and writes at an offset instead of a memory map. A full disk is then an error, but a map
would end the process with SIGBUS; and the pages do not count as this program's memory.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class RowFile:
    """The array (n, *shape) of `dtype` in `path`."""

    path: Path
    n: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def header(self) -> bytes:
        text = BytesIO()
        description = {"descr": self.dtype, "fortran_order": False, "shape": (self.n, *self.shape)}
        np.lib.format.write_array_header_1_0(text, description)
        return text.getvalue()

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def total_bytes(self) -> int:
        return len(self.header) + self.n * self.row_bytes

    def create(self) -> None:
        """Make the file and reserve its whole size on the disk; OSError if there is not enough space."""
        with self.path.open("wb") as file:
            file.write(self.header)
            file.flush()
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, self.total_bytes)
            else:
                file.truncate(self.total_bytes)

    def is_whole(self) -> bool:
        """Return whether the file exists with this header and size."""
        try:
            with self.path.open("rb") as file:
                head = file.read(len(self.header))
                return head == self.header and os.fstat(file.fileno()).st_size == self.total_bytes
        except OSError:
            return False

    def writer(self) -> Callable[[int, bytes], None]:
        """Return a function that writes a row; it raises OSError if the write fails.

        The function keeps the file open. A worker that outlives a killed build therefore writes to the old
        file, even if a new file has the same name.
        """
        file = self.path.open("r+b", buffering=0)

        def write(row: int, data: bytes) -> None:
            offset, view = self._offset(row), memoryview(data)
            while view:
                written = os.pwrite(file.fileno(), view, offset)
                offset, view = offset + written, view[written:]

        return write

    def read(self, row: int) -> bytes:
        with self.path.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), self.row_bytes, self._offset(row))

    def copy_rows(self, rows: Iterable[int], target: RowFile) -> None:
        """Write `target` with the given rows, in that order."""
        with self.path.open("rb") as source, target.path.open("wb") as file:
            file.write(target.header)
            for row in rows:
                source.seek(self._offset(row))
                file.write(source.read(self.row_bytes))

    def sync(self) -> None:
        """Wait until the file is on the disk."""
        with self.path.open("r+b") as file, contextlib.suppress(OSError):
            os.fsync(file.fileno())

    def _offset(self, row: int) -> int:
        return len(self.header) + row * self.row_bytes
