"""The JSON documents that commands print or write, and the version of each one's schema.

The version rises when a field changes its name or its meaning. A comparison's own records (cells, trials,
jobs and the plan) have their schema where they are written and read.
"""

from __future__ import annotations

VERSIONS = {
    "analyze-gap": 1,
    "compare": 1,
    "compare-dry-run": 1,
    "compare-slurm": 1,
    "compare-status": 1,
    "docs": 1,
    "doctor": 1,
    "dry-run": 2,
    "evaluate": 3,
    "export": 1,
    "history": 1,
    "inspect": 1,
    "list": 1,
    "movement": 2,  # held and own are called fixed and refitted
    "prepare": 1,
    "report": 1,
    "run": 2,
    "train": 1,
    "warmup": 1,
    "adapt": 1,
}


def schema(document: str) -> str:
    """Return the field `schema` of a document, such as `mgap.evaluate/3`. Raises KeyError if it has none."""
    return f"mgap.{document}/{VERSIONS[document]}"
