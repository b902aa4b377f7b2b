"""One HTML file with its images inside, which needs neither a network nor scripts.

The tables are those of the terminal, converted to table markup. All text from users is escaped.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mgap_cli.report.layout import Cropped, printable


@cache
def _templates() -> Environment:
    """Return the templates; they escape every value that is not markup already."""
    templates = Environment(
        loader=PackageLoader(__name__.rpartition(".")[0]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    templates.filters |= {"printable": printable, "text": text_html, "lines": _lines}
    return templates


def fragment(name: str, *values: object) -> Markup:
    """Return one part of the page: the macro `name` of templates/parts.html."""
    return Markup(getattr(_templates().get_template("parts.html").module, name)(*values))


@dataclass
class Section:
    """A part of the page under its heading. blocks: HTML."""

    key: str  # its anchor
    title: str
    blocks: list[str] = field(default_factory=list)

    def add(self, *shown: RenderableType) -> None:
        """Add tables in the form that the terminal shows."""
        self.blocks += [markup for item in shown for markup in blocks_of(item)]

    def say(self, text: str, *, missing: bool = False) -> None:
        """Add a paragraph; `missing`: it names a missing result and the command that makes it."""
        self.blocks.append(fragment("paragraph", text, missing))

    def picture(self, png: bytes, alt: str, caption: str = "") -> None:
        """Add a PNG. alt: what it shows, in words."""
        self.blocks.append(figure_html(png, alt, text_html(caption)))


def page(
    title: str, subtitle: str, verdict: Sequence[str], sections: Sequence[Section], figure: str = ""
) -> str:
    """Return the whole document; `verdict` are its sentences, as text, and `figure` the HTML below them."""
    template = _templates().get_template("page.html")
    return template.render(title=title, subtitle=subtitle, verdict=verdict, sections=sections, figure=figure)


def text_html(text: str) -> Markup:
    """Return text as HTML; text between backquotes is code."""
    parts = printable(text).split("`")
    if len(parts) % 2 == 0:  # a backquote without its partner
        return escape(printable(text))
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts)
    )


def figure_html(png: bytes, alt: str, caption: str) -> Markup:
    """Return a figure with the image inside; a `caption` that is not Markup is escaped."""
    width, height = struct.unpack(">II", png[16:24])  # from the header, so that the page stays still
    return fragment("figure", base64.b64encode(png).decode(), width, height, alt, caption)


def blocks_of(item: RenderableType) -> Iterator[str]:
    """Yield the HTML of what `layout.titled` returns: a title, a table, notes."""
    title = ""
    for part in _flat(item):
        if isinstance(part, Table):
            yield table_html(part, title)
            title = ""
        elif isinstance(part, Text) and "bold" in str(part.style):
            if title:
                yield fragment("heading", title)
            title = part.plain
        else:
            text = part.plain if isinstance(part, Text) else str(part)
            if title:  # a title without a table
                yield fragment("heading", title)
                title = ""
            if text:
                yield fragment("note", text)
    if title:
        yield fragment("heading", title)


def table_html(table: Table, caption: str) -> Markup:
    """Return a rich table as table markup: the first column names its row, unless it is a number."""
    numbers = [column.justify == "right" for column in table.columns]
    header = [_cell_text(column.header) for column in table.columns] if table.show_header else []
    rows = [[*map(_cell_text, cells)] for cells in zip(*(c.cells for c in table.columns), strict=True)]
    return fragment("table", caption, numbers, header, [row for row in rows if any(row)])


def pairs_html(caption: str, pairs: Mapping[str, object]) -> Markup:
    """Return names and values as a table."""
    return fragment("pairs", caption, pairs)


def _flat(item: RenderableType) -> Iterator[RenderableType]:
    if isinstance(item, Group):
        for part in item.renderables:
            yield from _flat(part)
    else:
        yield item


def _cell_text(cell: object) -> str:
    if isinstance(cell, Cropped):
        return cell.text
    return cell.plain if isinstance(cell, Text) else str(cell)


def _lines(text: str) -> Markup:
    """Return text as HTML that keeps its lines."""
    return Markup("<br>").join(map(printable, text.split("\n")))
