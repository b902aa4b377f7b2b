"""The layout of every table, readable at 80 columns and without colour.

Names that users chose (ids, classes, paths) are never read as markup.
"""

from __future__ import annotations

from dataclasses import dataclass

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from mgap_cli.output import printable as printable  # escapes names before they are measured
from mgap_cli.stats.intervals import Interval


def new_table(*, headed: bool = True) -> Table:
    """Return a table without columns; its only line is below the heading."""
    return Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
        show_header=headed,
    )


def add_numbers(table: Table, *headings: str) -> None:
    """Add columns of numbers: right-aligned, never wrapped."""
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)


def titled(title: str, body: RenderableType | None = None, *notes: str) -> Group:
    """Return the title, the body and the notes below one another, and an empty line."""
    parts: list[RenderableType] = [verbatim(title, "bold"), *([body] if body is not None else [])]
    return Group(*parts, *(verbatim(note, "dim") for note in notes), "")


def percent(share: float | None) -> str:
    """Return a share as a percentage without its sign, "-" where there is none."""
    return "-" if share is None else f"{100 * share:.1f}"


def percent_range(interval: Interval) -> str:
    """Return an interval of a share in percentages without their sign, such as 93.0-96.7."""
    return f"{percent(interval.low)}-{percent(interval.high)}"


def confidence_level(confidence: float) -> str:
    """Return a confidence level as a percentage, such as 95 %."""
    return f"{100 * confidence:g} %"


def p_value(p: float) -> str:
    """Return a p-value with three decimals, or a tiny one by its order of magnitude."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}" if p > 0 else "<1e-300"


def size(count: int) -> str:
    """Return a number of bytes for people, in decimal units."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count} B"


def verbatim(text: str, style: str = "") -> Text:
    """Return text whose brackets are not read as markup."""
    return Text(text, style=style)


def shortened(text: str, width: int, *, middle: bool = False, mark: str = "…") -> str:
    """Return `text` in at most `width` cells, cropped at its end or in its middle."""
    if cell_len(text) <= width:
        return text
    tail = width // 2 if middle else 0
    end = set_cell_size(text[::-1], tail)[::-1]
    return set_cell_size(text, width - tail - 1) + mark + end


def cropped(text: str, middle: bool = False) -> Cropped:
    """Return a user's name, which is cropped if its column is narrower."""
    return Cropped(printable(text), middle)


@dataclass(frozen=True)
class Cropped:
    """A name on one line, cropped at its end or in its middle if the column is narrower."""

    text: str
    middle: bool

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        width = cell_len(self.text)
        return Measurement(min(width, 1), min(width, options.max_width))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        mark = "~" if options.ascii_only else "…"
        text = shortened(self.text, options.max_width, middle=self.middle, mark=mark)
        yield Text(text, no_wrap=True, overflow="crop")
