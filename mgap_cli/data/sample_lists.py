"""Lists of samples, as `analyze-gap --export` writes them, or any file with one id per line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from mgap_cli.data.store import Store
from mgap_cli.data.tables import read_lines, read_table
from mgap_cli.errors import UnfitError, UsageError, did_you_mean
from mgap_cli.files import require_regular_file


def read_ids(path: Path) -> list[str]:
    """Return the column `id` of a .csv file, or the lines of any other file.

    Raises UnfitError for a file that cannot be read, is empty, lacks the column or names an id twice;
    UsageError for a folder, a pipe or a device.
    """
    if path.suffix.lower() == ".csv":
        header, rows = read_table(path)
        if "id" not in header:
            raise UnfitError(f"{path}: no column 'id'.", f"Its columns: {', '.join(map(repr, header))}.")
        ids = [row["id"] for _, row in rows]
    else:
        ids = [line for _, line in read_lines(path)]
    if len(set(ids)) < len(ids):
        (first, _), *_ = Counter(ids).most_common(1)
        raise UnfitError(f"{path}: {len(ids) - len(set(ids))} ids are listed twice, such as {first!r}.")
    return ids


def listed_samples(path: Path, store: Store) -> np.ndarray:
    """Return the positions (n,) int64, ascending, of the training samples that a list names.

    Raises UsageError if there is no such regular file; UnfitError if the list names a sample that is not in
    the training split of the store.
    """
    try:
        require_regular_file(path, "a list of ids")
    except UsageError as error:
        hint = did_you_mean(str(path), ["all", "balanced"], "Give all, balanced, or a list of ids.")
        raise UsageError(f"--only {error.message}", hint) from error
    position = {name: i for i, name in enumerate(store.ids)}
    ids = read_ids(path)
    for what, wrong in (
        ("are not in the store", [name for name in ids if name not in position]),
        ("are not in its training split", [n for n in ids if store.splits[position.get(n, 0)] != "train"]),
    ):
        if wrong:
            raise UnfitError(
                f"{path}: {len(wrong)} of {len(ids)} ids {what} ({store.path}), such as {wrong[0]!r}.",
                "List only training samples of the store that the checkpoint was trained on.",
            )
    return np.sort(np.array([position[name] for name in ids], dtype=np.int64))
