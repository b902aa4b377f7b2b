"""Fusion layers, one per file, found by name without importing them, because that takes seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgap_cli.config import FUSIONS
from mgap_cli.plugins import load_class

if TYPE_CHECKING:
    from mgap_cli.model.fusions.base import Fusion


def load_fusion(name: str) -> type[Fusion]:
    """Return the fusion called `name`, or the class that `path/to/file.py:Name` names.

    Raises UsageError for an unknown name, and for a file or class that cannot be loaded.
    """
    from mgap_cli.model.fusions.base import Fusion

    return load_class(FUSIONS, name, Fusion, "fusion")


def additive_names() -> list[str]:
    """Return the names of the built-in fusions whose logits are a sum over the modalities."""
    return [name for name in FUSIONS.names() if load_fusion(name).additive]
