"""Checkpoints: tensors and plain values, written atomically and opened without running code.

A checkpoint is a dict with these keys:

    format           layout.CHECKPOINT_FORMAT, and `version` of this layout
    stage            "train", "warmup" or "adapt", or what a method's recipe calls it
    method           its name, or path/to/file.py:Class; heads: those that it trains or probes
    plugins          the user's own files: {"method", "fusion", "encoder" or "encoders.MODALITY": {"path",
                     "name", "sha256"}}
    parent_digest    of the checkpoint that the stage started from; empty for new weights
    config           every setting, {section: {key: value}}
    classes          class names, in the order of the logits
    modalities       [{"name", "kind", "channels"}] of the network; absent: audio and video
    store            {"path", "name", "fingerprint"} of the data it was trained on
    model            the task's state dict: the network and what its method remembers
    epoch, step      finished epochs, and finished steps of the epoch after them
    spent            epochs of the budget behind these weights, all stages together
    history          one dict per epoch; selected: which of them this is, and by which split
    loop             optimizers by group and parameter name, scaler, running sums, random state
    program          mgap's version
"""

from __future__ import annotations

import dataclasses
import errno
import re
import shutil
import sys
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch

from mgap_cli import __version__
from mgap_cli.config import Config, from_dict
from mgap_cli.data.store import Store, is_store, open_store
from mgap_cli.errors import MgapError, UnfitError, UsageError, reason_of
from mgap_cli.files import MALFORMED, atomic_write
from mgap_cli.methods import load_method
from mgap_cli.modalities.audio_visual import AUDIO_VISUAL
from mgap_cli.modalities.modality import Modality, ModalityKind
from mgap_cli.plugins import Plugin
from mgap_cli.runs.layout import CHECKPOINT_FORMAT

VERSION = 2
_STAGE_NAME = re.compile(r"[a-z][a-z0-9-]*")
_COUNTS = ("epoch", "step", "spent")
_FIELD_TYPES: dict[str, type] = {
    **dict.fromkeys(("stage", "method", "parent_digest", "program"), str),
    **dict.fromkeys(_COUNTS, int),
    **dict.fromkeys(("config", "store", "model", "loop", "plugins"), dict),
    **dict.fromkeys(("classes", "heads", "history"), list),
}
_FULL = (errno.ENOSPC, errno.EDQUOT)
_STORE_KEYS = ("path", "name", "fingerprint")
_PLAIN = (str, int, float, bool, type(None))
_MOST_VALUES = 10_000_000  # the largest number of values in history and configuration that mgap writes


@dataclass(frozen=True)
class TrainedStore:
    """The store that a checkpoint was trained on: where it was, its name and its fingerprint."""

    path: str
    name: str
    fingerprint: str


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint, validated once when it is read. The module's docstring describes the fields.

    model: tensors on the CPU, by name. loop: what the trainer needs to continue; the trainer validates it.
    """

    stage: str
    method: str
    heads: tuple[str, ...]
    plugins: dict[str, Plugin]
    parent_digest: str
    config: Config
    classes: tuple[str, ...]
    store: TrainedStore
    model: dict[str, torch.Tensor]
    epoch: int
    step: int
    spent: int
    history: list[dict[str, Any]]
    selected: dict[str, Any]
    loop: dict[str, Any]
    modalities: tuple[Modality, ...] = AUDIO_VISUAL

    def network_state(self) -> dict[str, torch.Tensor]:
        """Return the tensors of the network by their names."""
        prefix = "network."
        return {k.removeprefix(prefix): v for k, v in self.model.items() if k.startswith(prefix)}


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically. MgapError if the folder cannot be written or the disk is full."""
    content = {f.name: getattr(checkpoint, f.name) for f in dataclasses.fields(checkpoint)}
    content |= {
        "heads": list(checkpoint.heads),
        "plugins": {role: dataclasses.asdict(plugin) for role, plugin in checkpoint.plugins.items()},
        "config": checkpoint.config.to_dict(),
        "classes": list(checkpoint.classes),
        "store": dataclasses.asdict(checkpoint.store),
        "modalities": [dataclasses.asdict(modality) for modality in checkpoint.modalities],
    }
    content = {key: value if key == "model" else _interned(value) for key, value in content.items()}
    try:
        with atomic_write(path, checkpoint=True) as file:
            about = {"format": CHECKPOINT_FORMAT, "version": VERSION, "program": __version__}
            torch.save({**about, **content}, file)
    except (MgapError, RuntimeError) as error:  # RuntimeError: torch's failed write
        raise _not_saved(path, content, error) from error


def _not_saved(path: Path, content: dict[str, Any], error: BaseException) -> MgapError:
    """Return why a write failed; the message of torch does not mention a full disk."""
    reason = str(error).splitlines()[0]
    hint = "Correct that, then run the same command again: it continues from the last save."
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        reason = cause.strerror or str(cause)
        if cause.errno in _FULL:
            needed, free = _tensor_bytes(content), shutil.disk_usage(path.parent).free
            reason = f"{reason}: {needed / 1e6:.1f} MB needed, {free / 1e6:.1f} MB free"
            hint = "Free space, then run the same command again: it continues from the last save."
    return MgapError(f"{path}: the checkpoint cannot be written ({reason}).", hint)


def _tensor_bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(map(_tensor_bytes, inner))


def _interned(value: Any) -> Any:
    """Return a copy in which equal strings are the same object.

    Pickle writes a repeated object as a reference, and an equal but different object in full. Without this
    copy, the file of a resumed run would differ in bytes from that of an uninterrupted run, with the same
    content.
    """
    if isinstance(value, dict):
        return {_interned(key): _interned(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_interned(inner) for inner in value]
    return sys.intern(value) if type(value) is str else value


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and validate a checkpoint; its tensors are on the CPU.

    Raises UnfitError if the file is missing, cut short, not a checkpoint of ours, or holds anything but
    tensors and plain values (unpickling never runs code). Raises it, too, naming the field, for a field that
    is missing or has a value that training does not write.
    """
    try:
        regular, exists = path.is_file(), path.exists()
    except (OSError, ValueError) as error:
        raise UnfitError(f"{path}: cannot be read ({reason_of(error)}).") from error
    if not regular:
        what = "is a folder" if path.is_dir() else "is not a regular file" if exists else "no such checkpoint"
        raise UnfitError(f"{path}: {what}.", "Give the .pt file that `mgap warmup` or `mgap adapt` printed.")
    retrain = "Take an intact copy, or run `mgap warmup` again."
    content = _unpickled(path, retrain)
    if not isinstance(content, dict) or not _equals(content.get("format"), CHECKPOINT_FORMAT):
        raise UnfitError(f"{path}: a PyTorch file, but not a checkpoint of mgap.", retrain)
    if not _equals(content.get("version"), VERSION):
        layout = reason_of(repr(content.get("version")))
        raise UnfitError(f"{path}: its layout is {layout}, and this program reads {VERSION}.", retrain)
    unfit = _unfit_fields(content)
    if unfit:
        raise UnfitError(f"{path}: {', '.join(unfit)} missing or of the wrong kind.", retrain)
    plugins = _required_plugins(content, path)
    return Checkpoint(
        stage=content["stage"],
        method=content["method"],
        heads=tuple(content["heads"]),
        plugins=plugins,
        parent_digest=content["parent_digest"],
        config=_config_of(content, path),
        classes=tuple(content["classes"]),
        store=TrainedStore(**{key: content["store"][key] for key in _STORE_KEYS}),
        model=content["model"],
        epoch=content["epoch"],
        step=content["step"],
        spent=content["spent"],
        history=content["history"],
        selected=content["selected"],
        loop=content["loop"],
        modalities=_modalities_of(content, path),
    )


def _unpickled(path: Path, retrain: str) -> Any:
    try:
        if not zipfile.is_zipfile(path):
            raise UnfitError(f"{path}: not a checkpoint, or cut short.", retrain)
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("compressed, so its size in memory is unknown; torch.save does not compress")
            damaged = archive.testzip()  # torch does not look at the checksums
        if damaged:
            raise ValueError(f"wrong checksum of {damaged}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a warning about the content, which is checked below
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnfitError:
        raise
    except Exception as error:  # a damaged or hostile archive may raise any exception
        reason = str(error)
        if "Unsupported" in reason or "weights_only" in reason.lower():
            raise UnfitError(
                f"{path}: refused, it holds code and not only tensors and plain values.", retrain
            ) from error
        first = (reason.splitlines() or ["unreadable"])[0]
        raise UnfitError(
            f"{path}: damaged ({reason_of(error if isinstance(error, MALFORMED) else first)}).", retrain
        ) from error


def _unfit_fields(content: dict[str, Any]) -> list[str]:
    """Return the names of fields that are missing or have a value that training does not write."""
    unfit = [key for key, expected in _FIELD_TYPES.items() if not isinstance(content.get(key), expected)]
    if unfit:
        return unfit
    store, classes, selected = content["store"], content["classes"], content.get("selected", {})
    wrong = {
        "stage": not _STAGE_NAME.fullmatch(content["stage"]),
        "heads": not content["heads"] or not all(map(_is_text, content["heads"])),
        "plugins": not _is_plain(content["plugins"], 2),
        **{key: isinstance(content[key], bool) or content[key] < 0 for key in _COUNTS},
        **{f"store.{key}": not _is_text(store.get(key)) for key in _STORE_KEYS},
        "classes": not classes or not all(map(_is_text, classes)) or len({*classes}) < len(classes),
        "selected": not isinstance(selected, dict) or not _is_plain(selected, 1),
        "history": not all(isinstance(e, dict) for e in content["history"])
        or not _is_plain(content["history"], 6),
        "config": not all(isinstance(keys, dict) for keys in content["config"].values())
        or not _is_plain(content["config"], 3),
        "model": not all(isinstance(k, str) and _is_whole(v) for k, v in content["model"].items()),
    }
    return [field for field, is_wrong in wrong.items() if is_wrong]


def _equals(value: object, expected: object) -> bool:
    return type(value) is type(expected) and value == expected  # tensors compare element by element


def _required_plugins(content: dict[str, Any], path: Path) -> dict[str, Plugin]:
    """Load the checkpoint's method, so that its settings are known; return the user's own files.

    Raises UnfitError if mgap has no such method, or if the user's own file is missing or has changed since.
    """
    try:
        plugins = {role: Plugin(**recorded) for role, recorded in content["plugins"].items()}
        for plugin in plugins.values():
            plugin.require_unchanged(path)
        load_method(content["method"])
        return plugins
    except UnfitError:
        raise
    except (UsageError, OSError, *MALFORMED) as error:
        raise UnfitError(
            f"{path}: its method cannot be loaded ({reason_of(error)}).",
            "It was written by another version of mgap, or changed.",
        ) from error


def _modalities_of(content: dict[str, Any], path: Path) -> tuple[Modality, ...]:
    """Return the modalities of a checkpoint's network; UnfitError if they are not records of modalities."""
    if "modalities" not in content:
        return AUDIO_VISUAL
    try:
        modalities = tuple(Modality(**record) for record in content["modalities"])
        valid = len(modalities) > 1 and all(
            _is_text(m.name)
            and m.kind in get_args(ModalityKind)
            and type(m.channels) is int
            and m.channels > 0
            for m in modalities
        )
    except MALFORMED:
        valid = False
    if not valid:
        raise UnfitError(f"{path}: modalities missing or of the wrong kind.", "Take an intact copy.")
    return modalities


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_plain(value: object, depth: int) -> bool:
    """Return whether a value consists of lists and dicts of plain values, nested at most `depth` deep.

    Lists that share their parts may be small in a file but take very long to walk, so the walk ends at
    _MOST_VALUES.
    """
    waiting = [(value, depth)]
    for _ in range(_MOST_VALUES):
        if not waiting:
            return True
        one, left = waiting.pop()
        if isinstance(one, dict | list | tuple) and left >= 0:
            if isinstance(one, dict) and not all(isinstance(key, str) for key in one):
                return False
            waiting += [(part, left - 1) for part in (one.values() if isinstance(one, dict) else one)]
        elif not isinstance(one, _PLAIN):
            return False
    return False


def _is_whole(value: object) -> bool:
    """Return whether a value is a tensor that has every element in memory, instead of repeating one."""
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_quantized:
        return False
    size = value.numel() * value.element_size()
    return value.device.type == "cpu" and value.untyped_storage().nbytes() >= size


def _config_of(content: dict[str, Any], path: Path) -> Config:
    """Return the configuration that a checkpoint was trained with; UnfitError if it is not one of mgap."""
    try:
        return from_dict(content["config"], str(path))
    except UsageError as error:
        hint = "It was written by another version of mgap, or changed."
        raise UnfitError(reason_of(error.message), hint) from error


def matching_store(checkpoint: Checkpoint, path: Path, store: Path | None) -> Store:
    """Open the store that a checkpoint, read from `path`, was trained on.

    store: where it is now, if not where the checkpoint says. Raises UnfitError if the store is missing or is
    another one.
    """
    recorded = checkpoint.store
    folder = store or Path(recorded.path)
    if store is None and not is_store(folder):
        raise UnfitError(
            f"{path}: its store is not at {folder} any more.", "Say where it is with --store FOLDER."
        )
    opened = open_store(folder)
    if opened.fingerprint != recorded.fingerprint:
        raise UnfitError(
            f"{path}: trained on another data set ({recorded.name}) than {folder} holds ({opened.name}).",
            "Give the store it was trained on with --store FOLDER.",
        )
    if checkpoint.classes != opened.classes:
        raise UnfitError(
            f"{path}: its class names, or their order, are not those of the store {folder}.",
            "The predictions would be counted for the wrong classes. Train on this store again.",
        )
    return opened
