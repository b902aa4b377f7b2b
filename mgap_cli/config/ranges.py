"""Fields of settings with their allowed numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mgap_cli.registry import Choices

LARGEST_COUNT = 2**31 - 1
LARGEST_NUMBER = 1e30  # far below the largest float32 number, 3e38


@dataclass(frozen=True)
class Range:
    low: float
    high: float
    open_low: bool

    def holds(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return above and value <= self.high  # this is false for NaN

    def __str__(self) -> str:
        return f"{'above' if self.open_low else 'at least'} {self.low:.10g} and at most {self.high:.10g}"


def bounded(default: float, low: float, high: float = LARGEST_NUMBER, open_low: bool = False) -> Any:
    return field(default=default, metadata={"range": Range(low, high, open_low)})


def count(default: int, high: int = LARGEST_COUNT) -> Any:
    return bounded(default, 1, high)


def seed(default: int) -> Any:
    return bounded(default, 0, 2**32 - 1)


def positive(default: float) -> Any:
    return bounded(default, 0, open_low=True)


def at_least_zero(default: float) -> Any:
    return bounded(default, 0)


def levels(*default: float, low: float = 0, high: float = LARGEST_NUMBER, open_low: bool = True) -> Any:
    levels = tuple(map(float, default))  # as from YAML, so that checkpoints have the same bytes
    return field(default=levels, metadata={"range": Range(low, high, open_low)})


def named(default: str, choices: Choices) -> Any:
    """A setting that names one of the choices, or a user's own class."""
    return field(default=default, metadata={"choices": choices})


def share(default: float) -> Any:
    return bounded(default, 0, 1, open_low=True)
