"""What one cell found, as its record file keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from mgap_cli.comparison.plan import Cell
from mgap_cli.files import MALFORMED, damaged, read_json, write_json
from mgap_cli.gap.scores import FUSED

State = Literal["done", "failed"]
RULE_PREFIX = "rule."  # before a decision rule's name, in the places of a head's
SCHEMA = "mgap.cell/2"


@dataclass(frozen=True)
class CellResult:
    """The result of a cell.

    seconds: of training, over all of its starts. hours are counted on `device`. figures: split to
    {figure: value}, such as {"test": {"fused.accuracy": 0.9}}. head: the one whose figures are reported
    first. correct: head, or RULE_PREFIX and a decision rule, to one character per test sample, 1 where it is
    right. error: why a failed cell stopped.
    """

    cell: Cell
    state: State
    seconds: float = 0.0
    device: str = ""
    epochs: int = 0
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    head: str = ""
    correct: Mapping[str, str] = field(default_factory=dict)
    error: str = ""

    def write(self, results: Path) -> None:
        write_json(self.cell.record(results), {"schema": SCHEMA, **asdict(self)})

    @property
    def test_samples(self) -> int:
        """How many test samples the heads and rules were judged on; 0 for a cell that failed."""
        return len(next(iter(self.correct.values()), ""))

    def figure(self, metric: str, split: str = "test") -> float | None:
        """Return a figure; of a network without a fused head, `fused` means its only head."""
        return self.figures.get(split, {}).get(self._recorded_name(metric))

    def correct_by(self, metric: str) -> str:
        """Return the samples, as in `correct`, that an accuracy is a share of; empty for another metric."""
        head, _, figure = self._recorded_name(metric).rpartition(".")
        return self.correct.get(head, "") if figure == "accuracy" else ""

    def _recorded_name(self, metric: str) -> str:
        head, _, figure = metric.rpartition(".")
        return f"{self.head}.{figure}" if head == FUSED and self.head else metric


def read_result(cell: Cell, results: Path) -> CellResult | None:
    """Return a cell's result; None where there is none yet. UnfitError for a damaged record."""
    path = cell.record(results)
    document: dict[str, Any] | None = read_json(path)
    if document is None:
        return None
    try:
        if document.pop("schema") != SCHEMA or document.pop("cell") != asdict(cell):
            raise ValueError(f"it is not a record of {cell}, or another version of mgap wrote it")
        return CellResult(cell, **document)
    except MALFORMED as error:
        raise damaged(path, error) from error
