"""Features of any modalities, from the arrays of one NPZ file."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np

from mgap_cli.config import DataConfig
from mgap_cli.data.clips import MEDIA_COLUMNS, SPLITS, Clip, Dataset
from mgap_cli.data.sources import SourceOptions
from mgap_cli.data.splits import carve_validation, stratified_choice
from mgap_cli.data.store import MODALITY_NAME
from mgap_cli.errors import UnfitError, UsageError, did_you_mean, reason_of
from mgap_cli.files import require_regular_file

SUMMARY = "arrays of features of two or more modalities, under any names: FILE.npz"
OPTIONS = frozenset({"modalities"})
TEST_SHARE = 0.2  # test share of the samples, if the file has no split
_LENGTH = "_length"
_KNOWN = ("label", "id", "split", "group", "classes")


def load(root: Path | None, config: DataConfig, options: SourceOptions) -> Dataset:
    """Return the samples of an NPZ file; UsageError or UnfitError for one that does not fit."""
    if root is None:
        raise UsageError("features needs its file.", "mgap prepare features FILE.npz")
    require_regular_file(root, "an NPZ file")
    try:
        with np.load(root, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # a damaged archive may raise any exception
        raise UnfitError(f"{root}: not an NPZ file of numbers and text ({reason_of(error)}).") from error
    names = _modalities(root, arrays, options.modalities)
    if "label" not in arrays or arrays["label"].ndim != 1:
        raise UnfitError(f"{root}: it has no array `label` with one value per sample.")
    n = len(arrays["label"])
    samples = {name: _samples(root, name, arrays, n) for name in names}
    labels, classes = _labels(root, arrays)
    columns = {name: _column(root, name, arrays, n) for name in ("id", "split", "group") if name in arrays}
    ids = columns.get("id", [str(i) for i in range(n)])
    groups = columns.get("group", [""] * n)
    extra = {name: list(map(str, a.tolist())) for name, a in arrays.items() if _is_column(name, a, n, names)}
    splits = columns.get("split") or _drawn(ids, labels, groups, config.seed)
    if unknown := sorted({*splits} - {*SPLITS}):
        raise UnfitError(f"{root}: split {unknown[0]!r}; expected {', '.join(SPLITS)}.")
    if "train" not in splits:
        raise UnfitError(f"{root}: the split train has no sample.")
    repeated, count = Counter(ids).most_common(1)[0]
    if count > 1 or "" in ids:
        raise UnfitError(f"{root}: the id {repeated!r} is empty or names {count} samples.")
    clips = [
        Clip(ids[i], labels[i], splits[i], group=groups[i], extra={k: v[i] for k, v in extra.items()})
        for i in range(n)
    ]
    named = all(groups)
    clips = carve_validation(
        clips, config.val_share, config.seed, groups=dict.fromkeys(groups, "") if named else None
    )
    asked = {"modalities": list(names)}
    return Dataset(
        "features", clips, classes, (), asked, root.absolute().parent, (root.absolute(),), arrays=samples
    )


def _modalities(root: Path, arrays: dict[str, np.ndarray], asked: tuple[str, ...]) -> tuple[str, ...]:
    fitting = [n for n, a in arrays.items() if a.ndim in (2, 3) and np.issubdtype(a.dtype, np.floating)]
    for name in asked:
        if name not in fitting:
            hint = did_you_mean(name, fitting, f"It has: {', '.join(fitting) or 'none'}.")
            raise UsageError(
                f"{root}: no array {name!r} of floating-point numbers (N, D) or (N, T, D).", hint
            )
    names = tuple(dict.fromkeys(asked)) or tuple(fitting)
    if len(names) < 2:
        raise UnfitError(
            f"{root}: {len(names)} modalities ({', '.join(names) or 'none'}); at least two are needed.",
            "Each is an array of floating-point numbers, (N, D) or (N, T, D).",
        )
    for name in names:
        if not MODALITY_NAME.fullmatch(name) or not _is_free(name):
            raise UnfitError(f"{root}: a modality cannot have the name {name!r}.", "Rename the array.")
    return names


def _is_free(name: str) -> bool:
    """Return whether a module of PyTorch can have a part with this name, and no head has the name."""
    from torch import nn

    return name not in ("fused", "decision", "frames") and not hasattr(nn.ModuleDict(), name)


def _samples(root: Path, name: str, arrays: dict[str, np.ndarray], n: int) -> np.ndarray:
    """Return a modality's array as float16 or float32, with NaN after the end of each sequence."""
    given = arrays[name]
    if len(given) != n or not given.size:
        raise UnfitError(f"{root}: {name} has shape {given.shape}, and label has {n} samples.")
    with np.errstate(over="ignore"):
        values = given.astype(np.float16 if given.dtype == np.float16 else np.float32)
    used = np.ones(values.shape[: values.ndim - 1], bool)
    lengths = arrays.get(name + _LENGTH)
    if lengths is not None and values.ndim == 3:
        steps = values.shape[1]
        whole = lengths.shape == (n,) and np.issubdtype(lengths.dtype, np.integer)
        if not whole or lengths.min() < 1 or lengths.max() > steps:
            raise UnfitError(f"{root}: {name}{_LENGTH} is not a whole number of 1 to {steps} per sample.")
        used = np.arange(steps) < lengths[:, None]
    bad = (~np.isfinite(values) & used[..., None]).reshape(n, -1).any(axis=1)
    if bad.any():
        raise UnfitError(
            f"{root}: {name} has NaN or infinite values in {int(bad.sum())} of {n} samples, first in row "
            f"{int(bad.argmax())}.",
            f"Replace them, or give the lengths of padded sequences as {name}{_LENGTH}.",
        )
    values[~used] = np.nan
    return values


def _labels(root: Path, arrays: dict[str, np.ndarray]) -> tuple[list[str], tuple[str, ...]]:
    """Return each sample's class name, and the classes in the order of `classes`, or sorted."""
    label = arrays["label"]
    given = [str(name) for name in arrays["classes"].ravel()] if "classes" in arrays else None
    if np.issubdtype(label.dtype, np.integer):
        names = given or [str(i) for i in range(int(label.max()) + 1)]
        if label.min() < 0 or label.max() >= len(names):
            raise UnfitError(f"{root}: label {int(label.max())} is not a position in `classes`.")
        labels = [names[i] for i in label]
    elif label.dtype.kind == "U":
        labels = label.tolist()
        names = given or sorted({*labels})
        if unknown := sorted({*labels} - {*names}):
            raise UnfitError(f"{root}: label {unknown[0]!r} is not in `classes`.")
    else:
        raise UnfitError(f"{root}: label is {label.dtype}; expected whole numbers or names.")
    if "" in names or len({*names}) < len(names):
        raise UnfitError(f"{root}: `classes` has an empty or repeated name.")
    return labels, tuple(names)


def _column(root: Path, name: str, arrays: dict[str, np.ndarray], n: int) -> list[str]:
    if arrays[name].shape != (n,):
        raise UnfitError(f"{root}: {name} has shape {arrays[name].shape}, and label has {n} samples.")
    return list(map(str, arrays[name].tolist()))


def _is_column(name: str, array: np.ndarray, n: int, modalities: tuple[str, ...]) -> bool:
    """Return whether an array is a further column of clips.csv."""
    taken = {*MEDIA_COLUMNS, *_KNOWN} - {"duration"}
    length = name.endswith(_LENGTH) and name.removesuffix(_LENGTH) in modalities
    numeric = name != "duration" or (array.dtype.kind in "iuf" and bool(np.isfinite(array).all()))
    return (
        array.shape == (n,)
        and name not in taken
        and not length
        and numeric
        and not re.search("[\0\r\n]", name)
    )


def _drawn(ids: list[str], labels: list[str], groups: list[str], seed: int) -> list[str]:
    """Draw a test split, stratified by label; it takes whole groups if every sample has a group."""
    if all(groups):
        chosen = stratified_choice(dict.fromkeys(groups, ""), TEST_SHARE, seed)
        return ["test" if group in chosen else "train" for group in groups]
    chosen = stratified_choice(dict(zip(ids, labels, strict=True)), TEST_SHARE, seed)
    return ["test" if name in chosen else "train" for name in ids]
