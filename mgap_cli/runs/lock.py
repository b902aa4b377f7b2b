"""A lock gives a run folder one writer: a command holds it for as long as it writes there.

The lock is a kernel lock (`flock`) on RUN/.mgap.lock. The kernel releases it when its process ends for any
reason, so the lock file of a killed process does not block other commands. The file says who holds the lock,
for the message that another command gives. `flock` makes the program POSIX-only; it works on NFS from Linux
2.6.12 on.

`report` and `analyze-gap --history` read a run folder without the lock, so that they can show a run in
progress. The one file that each of them writes there is written by no other command.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mgap_cli.errors import MgapError
from mgap_cli.files import MALFORMED, cannot_write, parsed_json, sweep_temporaries
from mgap_cli.output import Output
from mgap_cli.processes import is_main
from mgap_cli.runs.layout import LOCK_NAME, now

_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
_locked_folders: set[Path] = set()  # folders whose lock this process holds


@contextmanager
def run_lock(run: Path, sink: Output) -> Iterator[None]:
    """Hold the lock of a run folder, and delete the temporary files that killed commands left in it.

    The folder is made if it does not exist, and removed again if it is still empty at the end. Within one
    process the lock may be taken again while it is held. With several processes, only the main process takes
    it.

    Raises MgapError at once, naming the holder, if another process has the lock; and if the folder cannot
    be written.
    """
    try:
        folder = run.resolve()
    except RuntimeError as error:  # how Python before 3.13 reports a loop of symbolic links
        raise cannot_write(run, "its symbolic links form a loop") from error
    if not is_main() or folder in _locked_folders:
        yield
        return
    path = folder / LOCK_NAME
    try:
        made = _make_folders(folder)
        descriptor = _locked_file(path)
    except BlockingIOError as error:
        raise in_use(run) from error
    except OSError as error:
        raise cannot_write(run, error) from error
    if descriptor is None:
        sink.warn(f"{run}: its file system has no locks; take care that no other command writes there.")
        yield
        return
    _locked_folders.add(folder)
    try:
        with suppress(OSError):  # the record is for the message only; the lock does not depend on it
            path.write_bytes(_record())
        sweep_temporaries(folder)
        yield
    finally:
        _locked_folders.discard(folder)
        with suppress(OSError):
            path.unlink()  # while the lock is held, so that nobody else's file is removed
        os.close(descriptor)
        for parent in made:
            with suppress(OSError):  # it is not empty
                parent.rmdir()


def is_locked(run: Path) -> bool:
    """Return whether a process holds the lock of a run folder; a lock file left by a kill does not count.

    Where the file system has no locks, the file alone decides.
    """
    try:
        descriptor = os.open(run / LOCK_NAME, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def in_use(run: Path) -> MgapError:
    """Return the error for a run folder that another process has locked, with what its lock file says."""
    try:
        holder = parsed_json((run / LOCK_NAME).read_text(encoding="utf-8"))
        pid, host, command, since = (holder[key] for key in ("pid", "host", "command", "since"))
        who = f"process {pid} on {host} since {since}: {command}"
    except (OSError, *MALFORMED):
        who = "its lock file does not say which"
    return MgapError(
        f"{run}: another mgap command is writing there ({who}).",
        "Wait until it ends, or choose another folder.",
    )


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder and its parents; return those that are new, the deepest first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _locked_file(path: Path) -> int | None:
    """Open and lock a file; return its descriptor, or None if the file system has no locks.

    Raises BlockingIOError if another process holds the lock.
    """
    # Open for reading, so that the file system may still be remounted read-only; NFS, which implements flock
    # by record locks, answers EBADF to that and needs it open for writing.
    access = os.O_RDONLY
    while True:
        descriptor = os.open(path, access | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between the two calls the last holder may have removed the file.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
        except OSError as error:
            os.close(descriptor)
            if error.errno == errno.EBADF and access == os.O_RDONLY:
                access = os.O_RDWR
                continue
            if error.errno in _UNSUPPORTED:
                path.unlink(missing_ok=True)
                return None
            raise
        os.close(descriptor)


def _record() -> bytes:
    """Return what the lock file says: pid, host, command line and start."""
    command = shlex.join(["mgap", *sys.argv[1:]])
    if len(command) > 200:
        command = f"{command[:199]}…"
    holder = {"pid": os.getpid(), "host": platform.node(), "command": command, "since": now()}
    return (json.dumps(holder) + "\n").encode()
