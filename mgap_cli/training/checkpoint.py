"""Checkpoints: tensors and plain values only, written whole or not at all, opened without running code.

A checkpoint is a dict with these keys:

    format           "mgap-checkpoint", and `version` of this layout
    stage            "warmup" or "adapt"; `objective` by name
    config           every setting, {section: {key: value}}
    classes          class names, in the order of the logits
    store            {"path", "name", "fingerprint"} of the data it was trained on
    model            the task's state dict: the network and what its objective remembers
    epoch, step      finished epochs, and finished steps of the epoch after them
    spent            epochs of the budget behind these weights, both stages together
    history          a dict an epoch; selected: which of them this is, and by which split
    loop             optimizer, scheduler, scaler, running sums, random state
    program          mgap's version
"""

from __future__ import annotations

import errno
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch

from mgap_cli import __version__
from mgap_cli.config import Config, from_dict
from mgap_cli.errors import MgapError, UnfitError, UsageError
from mgap_cli.rundir import atomic_write

FORMAT = "mgap-checkpoint"
VERSION = 1
_KINDS: dict[str, type] = {
    **dict.fromkeys(("stage", "objective", "program"), str),
    **dict.fromkeys(("epoch", "step", "spent"), int),
    **dict.fromkeys(("config", "store", "model", "loop"), dict),
    **dict.fromkeys(("classes", "history"), list),
}
# What settings were before they existed, by objective: a checkpoint without them was trained so.
_EARLIER = {"ogm": {"ogm.end": 1.0}, "ogm-ge": {"ogm.end": 1.0}}
_FULL = (errno.ENOSPC, errno.EDQUOT)
_STORE_KEYS = ("path", "name", "fingerprint")


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write `content` atomically. MgapError if the folder cannot be written or the disk is full."""
    content = {key: value if key == "model" else _interned(value) for key, value in content.items()}
    try:
        with atomic_write(path) as file:
            torch.save({"format": FORMAT, "version": VERSION, "program": __version__, **content}, file)
    except (MgapError, RuntimeError) as error:  # torch reports a failed write of its archive as the latter
        raise _not_saved(path, content, error) from error


def _not_saved(path: Path, content: dict[str, Any], error: BaseException) -> MgapError:
    """Say why a write failed; torch's own words do not tell that the disk is full."""
    reason = str(error).splitlines()[0]
    hint = "Put that right, and run the same line again: it goes on from the last save, which is whole."
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        reason = cause.strerror or str(cause)
        if cause.errno in _FULL:
            needed, free = _tensor_bytes(content), shutil.disk_usage(path.parent).free
            reason = f"{reason}: {needed / 1e6:.1f} MB needed, {free / 1e6:.1f} MB free"
            hint = "Free space, and run the same line again: it goes on from the last save, which is whole."
    return MgapError(f"{path}: the checkpoint cannot be written ({reason}).", hint)


def _tensor_bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(map(_tensor_bytes, inner))


def _interned(value: Any) -> Any:
    """Return a copy whose equal strings are one object each.

    Pickle writes an object again by reference, an equal one in full: without this, a resumed run's file
    would differ in bytes from an undisturbed run's, though it says the same.
    """
    if isinstance(value, dict):
        return {_interned(key): _interned(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_interned(inner) for inner in value]
    return sys.intern(value) if type(value) is str else value


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint's content, on the CPU.

    Raises UnfitError if the file is missing, cut short, not a checkpoint of ours, or holds anything but
    tensors and plain values: unpickling never runs code.
    """
    if not path.is_file():
        hint = "Give the .pt file that `mgap warmup` or `mgap adapt` printed."
        raise UnfitError(f"{path}: {'is a folder' if path.is_dir() else 'no such checkpoint'}.", hint)
    retrain = "Take an intact copy, or run `mgap warmup` again."
    if not zipfile.is_zipfile(path):
        raise UnfitError(f"{path}: not a checkpoint, or cut short.", retrain)
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch does not look at the checksums
        if damaged:
            raise ValueError(f"wrong checksum of {damaged}")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged or hostile archive raises is open-ended
        reason = str(error)
        if "Unsupported" in reason or "weights_only" in reason.lower():
            raise UnfitError(
                f"{path}: refused, it holds code and not only tensors and plain values.", retrain
            ) from error
        raise UnfitError(
            f"{path}: damaged ({(reason.splitlines() or ['unreadable'])[0]}).", retrain
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UnfitError(f"{path}: a PyTorch file, but not a checkpoint of mgap.", retrain)
    if content.get("version") != VERSION:
        raise UnfitError(f"{path}: layout {content.get('version')}, this program reads {VERSION}.", retrain)
    unfit = [key for key, kind in _KINDS.items() if not isinstance(content.get(key), kind)]
    if not unfit:
        unfit = [f"store.{key}" for key in _STORE_KEYS if not isinstance(content["store"].get(key), str)]
    if unfit:
        raise UnfitError(f"{path}: {', '.join(unfit)} missing or of the wrong kind.", retrain)
    return content


def config_of(content: dict[str, Any], path: Path) -> Config:
    """Return the configuration that a checkpoint was trained with; UnfitError if it is not one of ours.

    A setting that the checkpoint does not have is newer than the checkpoint. It gets the value that stands
    for what the program did at that time, where this is not today's default.
    """
    try:
        earlier = Config().updated(_EARLIER.get(content["objective"], {}), str(path))
        return from_dict(content["config"], str(path), earlier)
    except UsageError as error:
        raise UnfitError(error.message, "It was written by another version of mgap, or changed.") from error
