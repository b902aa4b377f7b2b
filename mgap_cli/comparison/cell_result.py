"""The result of one cell, and its record file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from mgap_cli.comparison.plan import Cell
from mgap_cli.files import MALFORMED, damaged, read_json, write_json
from mgap_cli.gap.scores import FUSED

State = Literal["done", "failed"]
RULE_PREFIX = "rule."  # the prefix of a decision rule's name where the name of a head is expected
SCHEMA = "mgap.cell/2"


@dataclass(frozen=True)
class CellResult:
    """The result of a cell.

    seconds: training time, summed over all starts of the cell. device: the device on which it trained.
    figures: the metrics by split and name, such as {"test": {"fused.accuracy": 0.9}}. head: the head whose
    values are reported first. correct: for each head, and for each decision rule (with RULE_PREFIX before its
    name), one character per test sample: 1 if the prediction is right. error: why a failed cell stopped.
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
        """Number of test samples on which the heads and rules were evaluated; 0 for a cell that failed."""
        return len(next(iter(self.correct.values()), ""))

    def figure(self, metric: str, split: str = "test") -> float | None:
        """Return a value by its name; `fused` is the only head of a network that has no fused head."""
        return self.figures.get(split, {}).get(self._recorded_name(metric))

    def correct_by(self, metric: str) -> str:
        """Return the entry of `correct` that this accuracy is the mean of; empty for another metric."""
        head, _, figure = self._recorded_name(metric).rpartition(".")
        return self.correct.get(head, "") if figure == "accuracy" else ""

    def _recorded_name(self, metric: str) -> str:
        head, _, figure = metric.rpartition(".")
        return f"{self.head}.{figure}" if head == FUSED and self.head else metric


def read_result(cell: Cell, results: Path) -> CellResult | None:
    """Return a cell's result, or None if it has none yet. Raises UnfitError for a damaged record."""
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
