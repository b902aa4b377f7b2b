"""Measures of imbalance beside the gap, one module per family, each with its source in its docstring."""

from __future__ import annotations

from pathlib import Path

from mgap_cli.registry import Entry, describe, stems


def measure_entries() -> list[Entry]:
    """Return every family of measures with its summary and its constants, such as SOURCE."""
    modules = stems(__path__, without=("every", "measure")).values()
    return [describe(Path(__path__[0], f"{stem}.py")) for stem in modules]
