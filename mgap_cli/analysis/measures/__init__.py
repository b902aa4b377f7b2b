"""Measures of imbalance beside the gap, one module per family, each with its source in its docstring."""

from __future__ import annotations

from mgap_cli.registry import Choices

MEASURES = Choices(__name__, without=("every", "measure"))  # families, one per file
