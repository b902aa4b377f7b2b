"""The values that tuning tries for a setting: `Between` two numbers, or `OneOf` several choices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Between:
    """The numbers from low to high, both included. log: values are drawn evenly on a logarithmic scale."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError if there is nothing to choose from."""
        if not (self.low < self.high and (self.low > 0 or not self.log)):
            raise ValueError(f"Between({self.low}, {self.high}, log={self.log}) has nothing to choose from")

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"

    def to_dict(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high, "log": self.log}


@dataclass(frozen=True, init=False)
class OneOf:
    """Some values, each with the same chance."""

    values: tuple[Any, ...]

    def __init__(self, *values: Any) -> None:
        object.__setattr__(self, "values", values)

    def __contains__(self, value: object) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return ", ".join(map(str, self.values))

    def to_dict(self) -> dict[str, Any]:
        return {"one_of": list(self.values)}


Search = Between | OneOf
SearchSpace = Mapping[str, Search]  # by the name of the setting


def search_of(plain: Mapping[str, Any]) -> Search:
    """Return the search that `to_dict` converted to plain values."""
    return OneOf(*plain["one_of"]) if "one_of" in plain else Between(**plain)


def search_space(**settings: Search) -> SearchSpace:
    """Return the search space of a method: the values to try, by the name of the setting."""
    return settings
