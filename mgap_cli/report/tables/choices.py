"""The table that `mgap list` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mgap_cli.report.layout import new_table, printable

if TYPE_CHECKING:
    from rich.table import Table


def choices_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table with one row per choice; the first column never breaks."""
    table = new_table()
    for i, name in enumerate(columns):
        table.add_column(name, no_wrap=i == 0, overflow="fold")
    for row in rows:
        table.add_row(*map(printable, row))
    return table
