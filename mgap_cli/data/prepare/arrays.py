"""A store of given arrays. It is written to a temporary folder and then moved into place."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from mgap_cli.config import DataConfig
from mgap_cli.data.clips import MEDIA_COLUMNS, Dataset
from mgap_cli.data.prepare.store_document import store_document
from mgap_cli.data.store import CONTENT, content_hashes, table_text
from mgap_cli.files import cannot_write, write_json, write_text
from mgap_cli.modalities.features import array_modality


def write_array_store(dataset: Dataset, config: DataConfig, out: Path, staging: Path) -> None:
    """Write the store of a data set of arrays to `out`. Raises MgapError if the disk cannot be written."""
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir()
        modalities = [_write_array(staging, name, array) for name, array in dataset.arrays.items()]
        rows = [dataset.row(clip) for clip in dataset.clips]
        columns = dict.fromkeys((*MEDIA_COLUMNS, *(name for row in rows for name in row)))
        write_text(staging / "clips.csv", table_text(rows, columns))
        files = [*(f"{name}.npy" for name in dataset.arrays), "clips.csv"]
        contents = content_hashes({name: staging / name for name in files})
        document = store_document(
            dataset, config, dataset.digest(), dataset.clips, contents, modalities=modalities
        )
        (out / "store.json").unlink(missing_ok=True)
        for name in {*CONTENT, "skipped.csv"} - {*files}:
            (out / name).unlink(missing_ok=True)  # left from a store of media that this one replaces
        for name in files:
            (staging / name).replace(out / name)
        write_json(out / "store.json", document)
        shutil.rmtree(staging)
    except OSError as error:
        raise cannot_write(out, error, "Choose another folder with -o, or free space.") from error


def _write_array(folder: Path, name: str, array: np.ndarray) -> dict[str, Any]:
    """Write an array in the format of stores; return its record in store.json."""
    values = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    with (folder / f"{name}.npy").open("wb") as file:
        np.lib.format.write_array(file, values, version=(1, 0), allow_pickle=False)
    shape = values.shape[1:]
    modality_kind = array_modality(name, shape).kind
    return {"name": name, "kind": modality_kind, "shape": list(shape), "dtype": f"<f{values.dtype.itemsize}"}
