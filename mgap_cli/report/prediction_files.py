"""Files with the predictions of every head for each sample, for other programs: CSV, NPZ or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from mgap_cli.errors import UsageError
from mgap_cli.files import atomic_write
from mgap_cli.gap.score_files import SUFFIXES
from mgap_cli.stats.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class Predicted:
    """The predictions for N samples and C classes.

    labels: (N,) index into `classes`. heads: probabilities (N, C) by head. decision: (N, C), the
    probabilities by the decision rule called `rule`.
    """

    ids: Sequence[str]
    split: str
    classes: Sequence[str]
    labels: IntArray
    heads: Mapping[str, FloatArray]
    decision: FloatArray
    rule: str


def require_suffix(path: Path) -> None:
    """Raise UsageError unless the file's suffix is a format that `write_predictions` knows."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"{path}: its suffix does not name a format.",
            f"Name a file that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}.",
        )


def write_predictions(found: Predicted, path: Path) -> None:
    """Write one row per sample, in the format of the suffix of `path`.

    Columns: id, split, label, then p_<head>_<class> and predicted_<head> of each head, then
    decision_p_<class>, decision and rule. In NPZ, p_<head> and decision_p are arrays (N, C), label and
    predictions are numbers of the classes in the array `classes`. `analyze-gap` reads all three. Raises
    UsageError for another suffix, MgapError if the file cannot be written.
    """
    require_suffix(path)
    write = {".csv": _write_csv, ".npz": _write_npz, ".parquet": _write_parquet}[path.suffix.lower()]
    with atomic_write(path) as file:
        write(found, file)


def _columns(found: Predicted) -> dict[str, list[Any]]:
    names = np.array(found.classes, dtype=object)
    columns: dict[str, list[Any]] = {
        "id": list(found.ids),
        "split": [found.split] * len(found.ids),
        "label": names[found.labels].tolist(),
    }
    for head, p in found.heads.items():
        columns |= {f"p_{head}_{c}": p[:, i].tolist() for i, c in enumerate(found.classes)}
        columns[f"predicted_{head}"] = names[p.argmax(axis=1)].tolist()
    columns |= {f"decision_p_{c}": found.decision[:, i].tolist() for i, c in enumerate(found.classes)}
    columns["decision"] = names[found.decision.argmax(axis=1)].tolist()
    columns["rule"] = [found.rule] * len(found.ids)
    return columns


def _write_csv(found: Predicted, file: IO[bytes]) -> None:
    columns = _columns(found)
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    text.detach()  # flushes, and leaves the file open


def _write_npz(found: Predicted, file: IO[bytes]) -> None:
    n = len(found.ids)
    arrays: dict[str, Any] = {
        "id": np.array(found.ids, dtype=np.str_),
        "split": np.full(n, found.split),
        "label": found.labels,
        "classes": np.array(found.classes, dtype=np.str_),
    }
    for head, p in found.heads.items():
        arrays |= {f"p_{head}": p, f"predicted_{head}": p.argmax(axis=1)}
    arrays |= {"decision_p": found.decision, "decision": found.decision.argmax(axis=1)}
    np.savez_compressed(file, **arrays, rule=np.full(n, found.rule))


def _write_parquet(found: Predicted, file: IO[bytes]) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(_columns(found)), file)
