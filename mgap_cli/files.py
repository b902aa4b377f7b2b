"""What a path from outside may be: checks before a file is opened."""

from __future__ import annotations

import stat
from pathlib import Path

from mgap_cli.errors import UsageError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def require_regular_file(path: Path, what: str) -> None:
    """Raise UsageError unless `path` is a regular file, or a link to one.

    what: the file that is expected, such as "a CSV file". A missing file, a folder, a pipe or a device is
    refused before anything is opened, because reading a pipe or a device may never end.
    """
    hint = f"Expected {what}."
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"{path}: no such file.", hint) from error
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{path}: cannot be opened ({reason}).", hint) from error
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "a special file")
        raise UsageError(f"{path}: this is {kind}, not a regular file.", hint)
