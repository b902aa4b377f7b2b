"""Modalities whose samples are given as arrays of numbers."""

from __future__ import annotations

from mgap_cli.modalities.modality import Modality


def array_modality(name: str, shape: tuple[int, ...]) -> Modality:
    """Return the record for samples of shape (D,), which are features, or (T, D), which are a sequence.

    Raises ValueError for any other number of axes, or for an empty axis.
    """
    if len(shape) not in (1, 2) or not all(shape):
        raise ValueError(f"one sample has shape {shape}; expected (D,) or (T, D)")
    return Modality(name, "features" if len(shape) == 1 else "sequence", shape[-1])
