"""Checks on files that the user names, made before the files are opened."""

from __future__ import annotations

import stat
from pathlib import Path

from mgap_cli.errors import UsageError


def require_regular_file(path: Path, what: str) -> None:
    """Refuse an input that is missing or is not a regular file; symbolic links are followed.

    `what` says what the file should be, such as "a manifest". Opening a FIFO would wait for ever, and a
    device such as /dev/zero never ends. UsageError in every case that is refused.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file.", f"Give the path of {what}.") from error
    except (OSError, ValueError) as error:  # no permission, a circle of links, a name too long, a NUL in it
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"{path}: cannot be read ({reason}).", f"Give the path of {what}.") from error
    if stat.S_ISDIR(mode):
        raise UsageError(f"{path}: is a folder, not {what}.", "Give the path of a file.")
    if not stat.S_ISREG(mode):
        raise UsageError(
            f"{path}: is a pipe or a device, not {what}.", "Write its content to a file, and give that."
        )
