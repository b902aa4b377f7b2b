"""One HTML file that needs nothing else: no network, no scripts, images inside.

The tables are those of the terminal, turned into table markup. Everything from users is escaped.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mgap_cli.report.layout import Cropped, printable

# What the page may load is images from itself: a browser refuses the rest.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --dim: #555; --line: #c8c8c8; --back: #fff;
  --band: #f4f6f8; --mark: #0059a3; --warn: #8a4b00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --dim: #b0b0b0; --line: #4a4a4a;
  --back: #16181b; --band: #202429; --mark: #7cc0ff; --warn: #ffb866; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; background: var(--back); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0.5rem 0; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 0.5rem; border-bottom: 2px solid var(--line); }
a { color: var(--mark); }
nav ul { display: flex; flex-wrap: wrap; gap: 0 1.2rem; padding: 0; list-style: none; }
.verdict { background: var(--band); border-left: 4px solid var(--mark); padding: 0.5rem 1rem; }
.verdict p { margin: 0.4rem 0; }
.note { color: var(--dim); font-size: 0.88rem; margin: 0.2rem 0; }
.missing { color: var(--warn); }
.scroll { overflow-x: auto; margin-top: 1.2rem; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums;
  overflow-wrap: break-word; }
caption { text-align: left; font-weight: 600; padding: 0.3rem 0; }
th, td { padding: 0.2rem 0.7rem 0.2rem 0; text-align: left; vertical-align: top; }
thead th { border-bottom: 1px solid var(--line); vertical-align: bottom; }
tbody tr:nth-child(even) { background: var(--band); }
tbody th { font-weight: 400; }
td:not(.number, .blank) { min-width: 5.5rem; }
.pairs td { overflow-wrap: anywhere; }
.number { text-align: right; white-space: nowrap; }
figure { margin: 1.2rem 0; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; display: block; }
figcaption { font-size: 0.88rem; color: var(--dim); }
.clips { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); gap: 1rem; }
.clips figure { margin: 0; }
pre { background: var(--band); padding: 0.8rem; white-space: pre-wrap; font-size: 0.85rem; }
code { font-size: 0.92em; }
@media print { body { max-width: none; padding: 0; font-size: 10pt; color: #000; background: #fff; }
  nav { display: none; } figure, tr { break-inside: avoid; } h2, caption { break-after: avoid; }
  .scroll { overflow: visible; } table { font-size: 8pt; } }
"""


@dataclass
class Section:
    """A part of the page under its heading. blocks: HTML."""

    key: str  # its anchor
    title: str
    blocks: list[str] = field(default_factory=list)

    def add(self, *shown: RenderableType) -> None:
        """Add tables as they would be printed."""
        self.blocks += [markup for item in shown for markup in blocks_of(item)]

    def say(self, text: str, *, missing: bool = False) -> None:
        """Add a paragraph; `missing`: one that says what is not there, and which command makes it."""
        kind = ' class="missing"' if missing else ""
        self.blocks.append(f"<p{kind}>{text_html(text)}</p>")

    def picture(self, png: bytes, alt: str, caption: str = "") -> None:
        """Add a PNG. alt: what it shows, in words."""
        self.blocks.append(figure_html(png, alt, text_html(caption) if caption else ""))


def page(title: str, subtitle: str, verdict: Sequence[str], sections: Sequence[Section]) -> str:
    """Return the whole document; `verdict` are its sentences, as text."""
    links = "".join(f'<li><a href="#{s.key}">{escape(s.title)}</a></li>' for s in sections)
    said = "".join(f"<p>{text_html(sentence)}</p>" for sentence in verdict)
    body = "".join(
        f'<section aria-labelledby="{s.key}"><h2 id="{s.key}">{escape(s.title)}</h2>\n'
        f"{''.join(s.blocks)}</section>\n"
        for s in sections
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{escape(printable(title))}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<header><h1>{text_html(title)}</h1>\n"
        f'<p class="note">{text_html(subtitle)}</p></header>\n'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n<main>\n'
        f'<section class="verdict" aria-label="Verdict">{said}</section>\n{body}</main>\n</body>\n</html>\n'
    )


def text_html(text: str) -> str:
    """Return text as HTML; text between backquotes is code."""
    parts = escape(printable(text)).split("`")
    if len(parts) % 2 == 0:  # a backquote that is nobody's
        return escape(printable(text))
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))


def figure_html(png: bytes, alt: str, caption: str) -> str:
    """Return a figure with the image inside; `caption` is HTML."""
    width, height = struct.unpack(">II", png[16:24])  # of the header, so that nothing jumps as it loads
    data = base64.b64encode(png).decode()
    image = (
        f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}" '
        f'alt="{escape(printable(alt))}">'
    )
    return f"<figure>{image}{f'<figcaption>{caption}</figcaption>' if caption else ''}</figure>"


def blocks_of(item: RenderableType) -> Iterator[str]:
    """Yield the HTML of what `layout.titled` returns: a title, a table, notes."""
    title = ""
    for part in _flat(item):
        if isinstance(part, Table):
            yield table_html(part, title)
            title = ""
        elif isinstance(part, Text) and "bold" in str(part.style):
            if title:
                yield f"<p><strong>{escape(title)}</strong></p>"
            title = part.plain
        else:
            text = part.plain if isinstance(part, Text) else str(part)
            if title:  # a title without a table
                yield f"<p><strong>{escape(title)}</strong></p>"
                title = ""
            if text:
                yield f'<p class="note">{escape(text)}</p>'
    if title:
        yield f"<p><strong>{escape(title)}</strong></p>"


def table_html(table: Table, caption: str) -> str:
    """Return a rich table as table markup: the first column names its row."""
    columns = table.columns
    kinds = [' class="number"' if column.justify == "right" else "" for column in columns]
    head = ""
    if table.show_header:
        cells = "".join(
            f'<th scope="col"{kind}>{_cell(column.header)}</th>'
            if _cell(column.header)
            else '<td class="blank"></td>'
            for column, kind in zip(columns, kinds, strict=True)
        )
        head = f"<thead><tr>{cells}</tr></thead>"
    rows = []
    for cells_of_row in zip(*(column.cells for column in columns), strict=True):
        texts = [_cell(cell) for cell in cells_of_row]
        if not any(texts):
            continue  # an empty line of the terminal
        named = "" if kinds[0] else f'<th scope="row">{texts[0]}</th>'
        rest = list(zip(texts, kinds, strict=True))[1 if named else 0 :]
        rows.append(f"<tr>{named}{''.join(f'<td{kind}>{text}</td>' for text, kind in rest)}</tr>")
    label = escape(caption)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{label}"><table>'
        f"<caption>{label}</caption>{head}<tbody>{''.join(rows)}</tbody></table></div>"
    )


def pairs_html(caption: str, pairs: Mapping[str, object]) -> str:
    """Return names and values as a table."""
    rows = "".join(
        f'<tr><th scope="row">{text_html(name)}</th><td>{text_html(str(value))}</td></tr>'
        for name, value in pairs.items()
    )
    label = escape(caption)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{label}"><table class="pairs">'
        f"<caption>{label}</caption><tbody>{rows}</tbody></table></div>"
    )


def _flat(item: RenderableType) -> Iterator[RenderableType]:
    if isinstance(item, Group):
        for part in item.renderables:
            yield from _flat(part)
    else:
        yield item


def _cell(cell: object) -> str:
    """Return a cell's text as HTML; each of its lines is a line."""
    if isinstance(cell, Cropped):
        text = cell.text
    elif isinstance(cell, Text):
        text = cell.plain
    else:
        text = str(cell)
    return "<br>".join(escape(printable(line)) for line in text.split("\n"))
