"""The content of store.json, for stores of media and for stores of arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mgap_cli import __version__
from mgap_cli.config import DataConfig
from mgap_cli.data.clips import SPLITS, Clip, Dataset
from mgap_cli.data.store import LISTED_SCHEMA, SCHEMA, fingerprint_of, recorded_protocol


def store_document(
    dataset: Dataset,
    config: DataConfig,
    digest: str,
    kept: Iterable[Clip],
    contents: Mapping[str, str],
    skipped: Sequence[Mapping[str, str]] = (),
    modalities: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return the content of store.json, plain values only.

    digest: the hash of the data set. kept: the clips in the store. contents: the hash of each file. skipped:
    the rows of skipped.csv. modalities: name, kind, shape and dtype of each listed modality; None for the
    built-in pair.
    """
    counts = Counter(clip.split for clip in kept)
    protocol = recorded_protocol(config)
    return {
        "schema": SCHEMA if modalities is None else LISTED_SCHEMA,
        "name": dataset.name,
        "classes": list(dataset.classes),
        **({} if modalities is None else {"modalities": modalities}),
        "protocol": protocol,
        "source": {"root": str(dataset.root or ""), "options": dict(dataset.options)},
        "counts": {split: counts[split] for split in SPLITS if counts[split]},
        "skipped": list(skipped),
        "notes": list(dataset.notes),
        "clips": digest,
        "contents": contents,
        "fingerprint": fingerprint_of(dataset.classes, protocol, contents, modalities),
        "version": __version__,
    }
