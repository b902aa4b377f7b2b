"""Fusion layers, one per file, found by name without importing them, because that takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mgap_cli.plugins import load_class
from mgap_cli.registry import Entry, describe, stems

if TYPE_CHECKING:
    from mgap_cli.model.fusions.base import Fusion

_NO_FUSIONS = ("base",)


def names() -> list[str]:
    """Return the names of the fusions that ship, in alphabetical order."""
    return list(stems(__path__, _NO_FUSIONS))


def entries() -> list[Entry]:
    """Return every fusion that ships with its summary and its constants, such as PAPER and MODALITIES."""
    return [describe(Path(__path__[0], f"{stem}.py")) for stem in stems(__path__, _NO_FUSIONS).values()]


def load_fusion(name: str) -> type[Fusion]:
    """Return the fusion called `name`, or the class that `path/to/file.py:Name` names.

    Raises UsageError for an unknown name, and for a file or class that cannot be loaded.
    """
    from mgap_cli.model.fusions.base import Fusion

    return load_class(__name__, stems(__path__, _NO_FUSIONS), name, Fusion, "fusion")


def additive_names() -> list[str]:
    """Return the names of the fusions that ship and whose logits are a sum over the modalities."""
    return [name for name in names() if load_fusion(name).additive]
