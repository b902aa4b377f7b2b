"""The table of a comparison, once, and how it is written: Markdown, LaTeX, CSV, and for the terminal."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import RenderableType
from rich.text import Text

from mgap_cli.comparison.plan import TRIAL_SEED
from mgap_cli.comparison.statistics import LEVEL, ComparisonTable, Ranks, Row
from mgap_cli.comparison.tuning import Tuning
from mgap_cli.report.layout import add_numbers, cropped, new_table, p_value, percent, titled, verbatim

Format = Literal["markdown", "latex", "csv", "json"]
_LATEX = str.maketrans(
    {
        **{c: f"\\{c}" for c in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
    }
)


@dataclass(frozen=True)
class Line:
    """One row as text. bold: whether the corrected test finds a difference from the reference."""

    cells: tuple[str, ...]
    bold: bool = False


@dataclass(frozen=True)
class Grid:
    """The rows of one store. headings: of the names and of the numbers."""

    title: str
    headings: tuple[str, ...]
    lines: tuple[Line, ...]


def grids(table: ComparisonTable) -> list[Grid]:
    """Return two grids per store, of values and differences, and one of ranks from three stores on.

    Of tuned methods, also one grid per store of the chosen values.
    """
    made = []
    for store in dict.fromkeys(row.store for row in table.rows):
        rows = [row for row in table.rows if row.store == store]
        seeds = max(len(row.values) for row in rows)
        title = f"{store}: {table.metric} on test, {seeds} seed{'s' if seeds > 1 else ''}"
        made.append(_value_grid(title, rows, table))
        if any(row.against for row in rows):
            made.append(_difference_grid(f"{store}: difference to {table.reference}", rows, table))
    if table.ranks:
        made.append(_rank_grid(table.ranks))
    for store in dict.fromkeys(tuning.store for tuning in table.tunings):
        made.append(_tuning_grid(store, [t for t in table.tunings if t.store == store]))
    return made


def notes(table: ComparisonTable) -> list[str]:
    """Return what the columns mean."""
    text = ["interval: 95 %, bootstrap over seeds. cost: training time relative to joint."]
    if table.tests:
        text += [
            "p seeds: exact paired permutation test over seeds; p samples: McNemar's test; both after Holm's "
            f"correction for {table.tests} test{'s' if table.tests > 1 else ''}.",
            "wins: probability that a seed of the method beats a seed of the reference.",
            f"Bold: p seeds is below {LEVEL:g}.",
        ]
    detectable = [row.against.detectable for row in table.rows if row.against and row.against.detectable]
    if detectable:
        text.append(
            f"On so many samples, McNemar's test finds a difference of {_number(max(detectable), table)} "
            "with power 0.8."
        )
    if table.ranks:
        text.append(
            f"Friedman's test that all methods are equal: p {p_value(table.ranks.friedman_p)}. Average ranks "
            f"that differ by less than {table.ranks.critical:.2f} cannot be told apart (Nemenyi's test)."
        )
    if table.tunings:
        text.append(
            f"Trials: one seed each ({TRIAL_SEED}), which no cell has; the first has the values of the plan "
            "(val first). The highest accuracy on validation chose."
        )
    return text


def comparison_tables(table: ComparisonTable) -> list[RenderableType]:
    """Return the tables for the terminal."""
    tables: list[RenderableType] = []
    every = grids(table)
    for grid in every:
        rich = new_table()
        rich.add_column(grid.headings[0])
        add_numbers(rich, *grid.headings[1:])
        for line in grid.lines:
            style = "bold" if line.bold else ""
            rich.add_row(cropped(line.cells[0]), *(Text(cell, style=style) for cell in line.cells[1:]))
        tables.append(titled(grid.title, rich, *(notes(table) if grid is every[-1] else ())))
    return tables


def markdown(table: ComparisonTable) -> str:
    """Return the grids as Markdown tables, with their titles and notes."""
    parts = []
    for grid in grids(table):
        rows = [_markdown_row(grid.headings), _markdown_row(["---", *["---:"] * (len(grid.headings) - 1)])]
        for line in grid.lines:
            cells = [f"**{c}**" if line.bold and c else c for c in map(_markdown_text, line.cells)]
            rows.append(_markdown_row(cells))
        parts.append(f"{grid.title}\n\n" + "\n".join(rows))
    return "\n\n".join([*parts, " ".join(notes(table))])


def latex(table: ComparisonTable) -> str:
    """Return the grids as LaTeX tables for the package booktabs."""
    parts = ["% needs \\usepackage{booktabs}"]
    for grid in grids(table):
        columns = "l" + "r" * (len(grid.headings) - 1)
        body = []
        for line in grid.lines:
            cells = [_latex_text(cell) for cell in line.cells]
            body.append(" & ".join(f"\\textbf{{{c}}}" if line.bold and c else c for c in cells) + r" \\")
        parts.append(
            "\n".join(
                [
                    r"\begin{table}",
                    r"\centering",
                    rf"\caption{{{_latex_text(grid.title)}}}",
                    rf"\begin{{tabular}}{{{columns}}}",
                    r"\toprule",
                    " & ".join(map(_latex_text, grid.headings)) + r" \\",
                    r"\midrule",
                    *body,
                    r"\bottomrule",
                    r"\end{tabular}",
                    r"\end{table}",
                ]
            )
        )
    return "\n\n".join(parts)


def csv_text(table: ComparisonTable) -> str:
    """Return a row per store, method and seed: the values themselves, without rounding.

    Of tuned methods also the number of trials and the chosen values, as JSON.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    tuned = {(t.store, t.method): (len(t.trials), json.dumps(t.chosen.values)) for t in table.tunings}
    writer.writerow(["store", "method", "seed", table.metric, *(("trials", "chosen") if tuned else ())])
    for row in table.rows:
        chosen = tuned.get((row.store, row.method), ())
        for seed, value in row.values.items():
            writer.writerow([row.store, row.method, seed, repr(value), *chosen])
    return out.getvalue().rstrip("\n")


def _value_grid(title: str, rows: Sequence[Row], table: ComparisonTable) -> Grid:
    others = list(dict.fromkeys(head for row in rows for head in row.others))
    headings = (
        "method",
        f"mean ± sd{' %' if table.in_percent else ''}",
        "interval",
        "val",
        *others,
        "cost",
    )
    most = max(len(row.values) for row in rows)
    lines = []
    for row in rows:
        sd = "" if row.spread.sd is None else f" ± {_value(row.spread.sd, table)}"
        interval = row.interval
        cells = [
            row.method if len(row.values) == most else f"{row.method} ({len(row.values)} of {most})",
            f"{_value(row.spread.mean, table)}{sd}",
            f"{_value(interval.low, table)} to {_value(interval.high, table)}" if interval else "-",
            _value(row.val, table),
            *(_value(row.others.get(head), table) for head in others),
            "-" if row.cost is None else f"{row.cost:.2f}",
        ]
        lines.append(Line(tuple(cells), row.against is not None and row.against.real))
    return Grid(title, headings, tuple(lines))


def _difference_grid(title: str, rows: Sequence[Row], table: ComparisonTable) -> Grid:
    headings = ("method", "difference", "p seeds", "p samples", "wins")
    lines = [
        Line(
            (
                row.method,
                _value(row.against.difference.mean, table, "+"),
                p_value(row.against.adjusted_seeds),
                "-" if row.against.adjusted_samples is None else p_value(row.against.adjusted_samples),
                f"{row.against.better:.2f}",
            ),
            row.against.real,
        )
        for row in rows
        if row.against
    ]
    return Grid(title, headings, tuple(lines))


def _value(value: float | None, table: ComparisonTable, sign: str = "") -> str:
    """Return a value of the metric: a share as a percentage, "-" where there is none."""
    if value is None:
        return "-"
    return f"{100 * value:{sign}.1f}" if table.in_percent else f"{value:{sign}.3f}"


def _rank_grid(ranks: Ranks) -> Grid:
    ordered = sorted(ranks.average.items(), key=lambda item: item[1])
    lines = tuple(Line((method, f"{rank:.2f}")) for method, rank in ordered)
    return Grid(f"Average rank over {ranks.stores} stores", ("method", "rank"), lines)


def _tuning_grid(store: str, tunings: Sequence[Tuning]) -> Grid:
    """Return one line per setting; the first of a method also has what holds for all of its settings."""
    lines = []
    for tuning in tunings:
        shares = (tuning.trials[0].accuracy, tuning.chosen.accuracy)
        first = (tuning.method, *map(percent, shares), str(tuning.failed))
        for key, value in tuning.chosen.values.items():
            lines.append(Line((*first, key.partition(".")[2], _short(value))))
            first = ("", "", "", "")
    trials = len(tunings[0].trials)
    title = f"{store}: values chosen on validation by {trials} trial{'s' if trials > 1 else ''} per method"
    return Grid(title, ("method", "val first", "val best", "failed", "setting", "value"), tuple(lines))


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _number(value: float, table: ComparisonTable) -> str:
    return f"{100 * value:.1f} points" if table.in_percent else f"{value:.3f}"


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_text(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")


def _latex_text(text: str) -> str:
    return verbatim(text).plain.translate(_LATEX)
