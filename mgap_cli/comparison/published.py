"""Published accuracies on a data set, and whether our results can be compared with them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

ChosenOnTest = Literal["yes", "no", "unknown"]
FILE = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class Published:
    """One published accuracy.

    dataset: name of the data set, as in a store. value: accuracy in percent. n: number of test samples, None
    if the source does not state it. protocol: how the accuracy was measured, in words. chosen_on_test:
    whether the best epoch was chosen on the test set. secondary: whether the source is neither the method's
    own paper nor its authors' program.
    """

    dataset: str
    method: str
    value: float
    n: int | None
    protocol: str
    chosen_on_test: ChosenOnTest
    secondary: bool
    source: str

    def obstacles(self, n: int) -> list[str]:
        """Return why an accuracy on `n` test samples cannot be compared with this one; empty if it can.

        This holds for an accuracy whose epoch was chosen on validation.
        """
        reasons = []
        if self.n is None:
            reasons.append("its number of test samples is unknown")
        elif self.n != n:
            reasons.append(f"it has {self.n} test samples, not {n}")
        if self.chosen_on_test == "yes":
            reasons.append("its epoch was chosen on the test set")
        elif self.chosen_on_test == "unknown":
            reasons.append("how its epoch was chosen is unknown")
        return reasons


@cache
def every_published() -> tuple[Published, ...]:
    """Return all rows of `published.yaml`. Raises ValueError, with the row's number, for a wrong row."""
    rows = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return tuple(_row(number, row) for number, row in enumerate(rows, start=1))


def published_on(dataset: str) -> list[Published]:
    """Return the rows of the data set with this name in a store, with the highest value first."""
    rows = [row for row in every_published() if row.dataset == dataset]
    return sorted(rows, key=lambda row: -row.value)


def _row(number: int, row: dict[str, Any]) -> Published:
    names = {field.name for field in fields(Published)}
    if row.keys() != names:
        raise ValueError(f"{FILE.name}, row {number}: its fields are not {', '.join(sorted(names))}")
    made = Published(**row)
    valid = (
        all(
            isinstance(text, str) and text for text in (made.dataset, made.method, made.protocol, made.source)
        ),
        isinstance(made.value, float | int) and 0 < made.value < 100,
        made.n is None or (isinstance(made.n, int) and made.n > 0),
        made.chosen_on_test in get_args(ChosenOnTest),
        isinstance(made.secondary, bool),
    )
    if not all(valid):
        raise ValueError(f"{FILE.name}, row {number}: a value has the wrong type or range: {row}")
    return made
