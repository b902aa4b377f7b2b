"""Check that a store is as `prepare` wrote it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from mgap_cli.data.clips import SPLITS
from mgap_cli.data.store import Store, changed_files
from mgap_cli.errors import UnfitError

CHUNK = 256  # number of clips that are checked together, so that memory does not grow with the store


def require_intact(store: Store) -> None:
    """Read all of a store; UnfitError, with all defects, unless it is as `prepare` wrote it.

    `open_store` has already checked that the arrays' shapes fit clips.csv and the protocol.
    """
    if defects := list(_defects(store)):
        raise UnfitError(
            f"{store.path}: not the store that prepare made: {'; '.join(defects)}.",
            "Copy it again from an intact copy, or make it again: mgap prepare with --force.",
        )


def _defects(store: Store) -> Iterator[str]:
    if changed := changed_files(store):
        yield f"the content of {', '.join(changed)} has changed (its fingerprint differs)"
    splits = store.columns["split"]
    if unknown := sorted({*splits} - {*SPLITS}):
        yield f"clips.csv has unknown splits ({', '.join(map(repr, unknown))})"
    elif dict(Counter(splits)) != store.meta.get("counts"):
        yield "clips.csv and store.json count the splits differently"
    repeated = [pair for pair, n in Counter(zip(splits, store.ids, strict=True)).items() if n > 1]
    if repeated:
        yield f"{len(repeated)} ids are duplicated within a split, first {repeated[0][1]!r}"
    for modality in store.modalities:
        if modality.kind == "spectrogram" and (bad := list(_not_finite(store, modality.name))):
            yield f"{len(bad)} clips have {modality.name} that is not finite, first {bad[0]!r}"


def _not_finite(store: Store, name: str) -> Iterator[str]:
    for start in range(0, len(store), CHUNK):
        finite = np.isfinite(store.arrays[name][start : start + CHUNK]).all(axis=(1, 2))
        yield from (store.ids[start + i] for i in np.flatnonzero(~finite))
