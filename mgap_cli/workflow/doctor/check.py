"""The result of one check of `mgap doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mgap_cli.report.schemas import schema

State = Literal["ok", "absent", "warning", "broken"]


@dataclass(frozen=True)
class Check:
    """What a check says about one part of the machine.

    state: `broken` if mgap needs the part and it does not work, `warning` if mgap works worse than it could,
    `absent` for an optional part that is missing. text: what the check found. hint: what to do; "" if
    nothing.
    """

    name: str
    state: State
    text: str
    hint: str = ""

    def line(self) -> str:
        """Return the check as one line."""
        return f"{self.state:<8} {self.name:<13} {self.text}" + (f" {self.hint}" if self.hint else "")


def broken(checks: Sequence[Check]) -> list[str]:
    """Return the names of the checks whose state is `broken`."""
    return [check.name for check in checks if check.state == "broken"]


def doctor_document(folder: Path, checks: Sequence[Check]) -> dict[str, Any]:
    """Return the JSON document of the checks, in the order in which they are shown."""
    return {
        "schema": schema("doctor"),
        "folder": str(folder),
        "broken": broken(checks),
        "checks": [asdict(check) for check in checks],
    }
