"""What every reader of a file asks first: is it a file at all?"""

from __future__ import annotations

import stat
from pathlib import Path

from mgap_cli.errors import UsageError

# Reading a pipe may wait for ever, and a device such as /dev/zero has no end.
_OTHER_KINDS = (
    (stat.S_ISDIR, "it is a folder"),
    (stat.S_ISFIFO, "it is a pipe"),
    (stat.S_ISCHR, "it is a device"),
    (stat.S_ISBLK, "it is a device"),
    (stat.S_ISSOCK, "it is a socket"),
)


def require_regular_file(path: Path, what: str) -> None:
    """Raise UsageError unless `path` is a regular file or a link to one.

    what: what the file is for, such as "the settings file"; the message names it.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise UsageError(f"{path}: {what} cannot be read (no such file).") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: {what} cannot be read ({reason}).") from error
    for is_kind, reason in _OTHER_KINDS:
        if is_kind(mode):
            raise UsageError(f"{path}: {what} cannot be read ({reason}).", "Give a regular file.")
