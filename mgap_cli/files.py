"""Rules for every file that the program reads or writes.

A file is written to a temporary neighbour, synced and renamed: it is complete or does not exist. A symbolic
link is followed: the file that it points to is written, and the link stays. An output never replaces
anything that is not a regular file, nor a checkpoint, a part of a store, a record of a run folder, or an
input of the same command.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import stat
import uuid
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from mgap_cli.errors import MgapError, UnfitError, UsageError, reason_of
from mgap_cli.processes import is_main

STORE_MARK = "store.json"  # the file that makes a folder a store
PARTIAL = ".partial"  # the folder in which a store is built
RUN_MARKS = ("env.json", "status.json")  # files that every run folder has
RUN_RECORDS = (*RUN_MARKS, "config.yaml", "metrics.jsonl")  # files that only training writes
CHECKPOINT_SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors")

# Errors that a document raises if it lacks a field, or has it in another form.
MALFORMED = (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, StopIteration,
             TypeError, ValueError)  # fmt: skip

_FILE_TYPES = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


@contextmanager
def atomic_write(path: Path, *, checkpoint: bool = False) -> Iterator[IO[bytes]]:
    """Yield a binary file that replaces `path` when the block ends; after an exception, `path` is unchanged.

    checkpoint: the caller writes a checkpoint, so it may replace one. Every process that calls this writes:
    of several, let the main one do it (`processes.is_main`).

    Raises UsageError if `path` is a folder, a device or a pipe, or an existing checkpoint; MgapError if
    the folder cannot be written or the disk is full.
    """
    target = _target(path)
    if not checkpoint and is_checkpoint(target):
        raise _refused(path, "it is a checkpoint")
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # The name exists before the file does, so that Ctrl-C at any moment finds it. The umask decides the
        # file's mode, so that a group can share a folder (files of mkstemp are private).
        temporary, file = _new_temporary(target)
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(target)
    except BaseException as error:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically. Raises what `atomic_write` raises."""
    with atomic_write(path) as file:
        file.write(text.encode())


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON document, atomically. Raises ValueError for NaN and infinities, which JSON lacks."""
    write_text(path, json.dumps(document, indent=2, allow_nan=False) + "\n")


def write_text_once(path: Path, text: str) -> None:
    """Call `write_text` in the main process of several; the others, which have the same text, do nothing."""
    if is_main():
        write_text(path, text)


def write_json_once(path: Path, document: dict[str, Any]) -> None:
    """Call `write_json` in the main process of several; the others do nothing."""
    if is_main():
        write_json(path, document)


def ensure_output_allowed(path: Path, inputs: Iterable[Path] = ()) -> None:
    """Check, before any work is done, that a command may write `path`.

    inputs: files that the same command reads, or that it also writes.

    Raises UsageError if `path` is an input or lies in a store, or if it exists and is a checkpoint, a record
    of a run folder, or not a regular file; MgapError if it cannot be inspected.
    """
    target = _target(path)
    for given in inputs:
        if same_file(target, given):
            raise _refused(path, f"this command also uses {given}")
    folder = target.parent
    if (folder / STORE_MARK).exists() or (folder / PARTIAL).exists() or folder.name == PARTIAL:
        raise UsageError(f"{path}: cannot be written into the store {folder}.", "Choose another folder.")
    if not target.exists():
        return
    if is_checkpoint(target):
        raise _refused(path, "it is a checkpoint")
    if target.name in RUN_RECORDS and any((folder / mark).exists() for mark in RUN_MARKS):
        raise _refused(path, f"it is a record of the run folder {folder}")


def ensure_outputs_allowed(outputs: Iterable[Path], inputs: Iterable[Path] = ()) -> None:
    """Check every output of a command as `ensure_output_allowed` does, and that all are different files."""
    used = list(inputs)
    for path in outputs:
        ensure_output_allowed(path, used)
        used.append(path)


def same_file(a: Path, b: Path) -> bool:
    """Return whether two paths name the same file, which need not exist; links are followed."""
    try:
        return a.resolve() == b.resolve() or (a.exists() and a.samefile(b))
    except (OSError, RuntimeError):  # the other does not exist, or links form a loop
        return False


def is_checkpoint(path: Path, mark: bytes = b"") -> bool:
    """Return whether `path` is an existing checkpoint of any program, by its name or by its content.

    mark: bytes that its pickled part must contain; with `mark`, the name is not enough.
    """
    try:
        if not path.is_file():
            return False
        if not mark and path.suffix.lower() in CHECKPOINT_SUFFIXES:
            return True
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            pickled = [name for name in archive.namelist() if name.endswith("data.pkl")]
            return any(not mark or mark in _beginning(archive, name) for name in pickled)
    except (OSError, *MALFORMED, NotImplementedError, zipfile.BadZipFile):
        return False


def sweep_temporaries(folder: Path) -> None:
    """Delete the temporary files that killed processes left in `folder`, and no other file.

    A process that is writing holds a kernel lock on its temporary file; such a file stays.
    """
    for path in folder.glob(".*.tmp"):
        if not _TEMPORARY.fullmatch(path.name) or path.is_symlink() or not path.is_file():
            continue
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def require_regular_file(path: Path, what: str) -> None:
    """Raise UsageError unless `path` is a regular file, or a link to one.

    what: the file that is expected, such as "a CSV file". A missing file, a folder, a pipe or a device is
    refused before anything is opened, because reading a pipe or a device may never end.
    """
    hint = f"Give the path of {what}."
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"{path}: no such file.", hint) from error
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        raise UsageError(f"{path}: cannot be read ({reason_of(error)}).", hint) from error
    if not stat.S_ISREG(mode):
        raise UsageError(
            f"{path}: it is {_FILE_TYPES.get(stat.S_IFMT(mode), 'a special file')}, not {what}.", hint
        )


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file of a run folder, or None if the file does not exist.

    Raises UnfitError if it is anything else, or holds NaN or an infinite number.
    """
    text = read_record(path)
    if text is None:
        return None
    try:
        document = parsed_json(text)
        if not isinstance(document, dict):
            raise ValueError("not a JSON object")
    except MALFORMED as error:
        raise damaged(path, error) from error
    return document


def read_record(path: Path) -> str | None:
    """Return the text of a file of a run folder, or None if it does not exist.

    Raises UnfitError if it is not a regular file of UTF-8 text that can be read.
    """
    try:
        if not path.exists():
            return None
        if not path.is_file():
            raise ValueError("not a regular file")
        return path.read_text(encoding="utf-8")
    except (OSError, *MALFORMED) as error:
        raise damaged(path, error) from error


def parsed_json(text: str) -> Any:
    """Parse JSON strictly: ValueError for NaN and infinite numbers too, RecursionError for deep nesting."""

    def refuse(word: str) -> float:
        raise ValueError(f"{word} is not a finite number")

    def finite(word: str) -> float:
        number = float(word)
        return number if abs(number) < float("inf") else refuse(word[:20])

    return json.loads(text, parse_constant=refuse, parse_float=finite)


def damaged(path: Path, cause: BaseException | str) -> UnfitError:
    """Return the error, in two lines, for a file of a run folder that has been changed or damaged."""
    return UnfitError(
        f"{path}: damaged ({reason_of(cause)}).", "Move it away and run the command that writes it again."
    )


def cannot_write(
    path: Path, error: OSError | str, hint: str = "Free space, or choose another place."
) -> MgapError:
    """Return the error for a file or folder that cannot be written."""
    return MgapError(f"{path}: cannot be written ({reason_of(error)}).", hint)


def _target(path: Path) -> Path:
    """Return the file that writing to `path` would replace, symbolic links followed."""
    try:
        target = path.resolve() if path.is_symlink() else path
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target
    except RuntimeError as error:  # how Python before 3.13 reports a loop of symbolic links
        raise cannot_write(path, "its symbolic links form a loop") from error
    except OSError as error:
        raise cannot_write(path, error) from error
    if stat.S_ISREG(mode):
        return target
    what = "a folder" if stat.S_ISDIR(mode) else "a device, a pipe or a socket"
    raise UsageError(f"{path}: cannot be written, because it is {what}.", "Give the name of a file.")


def _beginning(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as file:
        return file.read(4096)


def _refused(path: Path, why: str) -> UsageError:
    return UsageError(f"{path}: would be overwritten, and {why}.", "Choose another name for the output.")


def _new_temporary(target: Path) -> tuple[Path, IO[bytes]]:
    """Create a temporary file beside `target`; it has a kernel lock for as long as it is open."""
    while True:
        path = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
        file = path.open("xb")
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists():
                return path, file
        except BaseException:
            path.unlink(missing_ok=True)
            file.close()
            raise
        file.close()  # another process deleted it between its creation and its lock
