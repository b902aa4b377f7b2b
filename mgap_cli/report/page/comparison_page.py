"""The page of a comparison: what differs, how much, at which cost, and each cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import RenderableType

from mgap_cli import __version__
from mgap_cli.comparison.cell_result import CellResult
from mgap_cli.comparison.conclusion import conclusion
from mgap_cli.comparison.plan import Cell
from mgap_cli.comparison.statistics import ComparisonTable, Row
from mgap_cli.report.comparison_table import comparison_tables
from mgap_cli.report.figures import comparison as figures
from mgap_cli.report.figures.gap import png_bytes
from mgap_cli.report.layout import percent
from mgap_cli.report.page.html import Section, fragment, page
from mgap_cli.report.tables.cells import status_tables


def comparison_page(
    table: ComparisonTable,
    gaps: ComparisonTable,
    results: Mapping[Cell, CellResult | None],
    settings: Mapping[str, Mapping[str, object]],
    folder: Path,
    published: Sequence[RenderableType] = (),
) -> str:
    """Return the page as HTML that needs nothing else.

    gaps: the same cells by their mean absolute gap. results: every cell of the plan. settings: of each
    STORE/METHOD, by key. folder: of the comparison; links to the cells are relative to it.
    published: tables of published accuracies.
    """
    sections = [
        _store_section(store, table, gaps) for store in dict.fromkeys(row.store for row in table.rows)
    ]
    if table.ranks:
        section = Section("ranks", "Ranks over the stores")
        section.picture(
            png_bytes(figures.rank_figure(table.ranks)),
            "Average rank of each method; a bar joins methods that cannot be told apart.",
        )
        sections.append(section)
    tables = Section("tables", "Tables and tests")
    tables.add(*comparison_tables(table), *published)
    sections += [tables, _settings_section(settings), _cell_section(results, folder)]
    done = sum(result is not None and result.state == "done" for result in results.values())
    subtitle = f"by mgap {__version__}; {folder.resolve()}; {done} of {len(results)} cells are done"
    return page(f"mgap compare: {folder.resolve().name}", subtitle, conclusion(table), sections)


def _store_section(store: str, table: ComparisonTable, gaps: ComparisonTable) -> Section:
    rows = [row for row in table.rows if row.store == store]
    section = Section(f"store-{store}", store)
    section.picture(
        png_bytes(figures.method_figure(rows, table)),
        _in_words(rows, table),
        "Grey: each seed. Line: 95 % bootstrap interval of the mean. Filled mark: the corrected test finds a "
        f"difference from {table.reference} (dashed).",
    )
    if sum(row.cost is not None for row in rows) > 1:
        section.picture(
            png_bytes(figures.cost_figure(rows, table)), f"{table.metric} of each method over its cost."
        )
    if any(row.others for row in rows):
        section.picture(
            png_bytes(figures.one_modality_figure(rows, table)),
            f"{table.metric} of each method over that of its best head of one modality.",
            "Below the dashed line, the best head of one modality is better than all modalities together.",
        )
    with_gap = [row for row in gaps.rows if row.store == store]
    if with_gap:
        section.picture(
            png_bytes(figures.method_figure(with_gap, gaps)),
            "Mean absolute gap of each method on test.",
            "The mean modality gap on test, the smallest on top, for methods with a head per modality.",
        )
    return section


def _settings_section(settings: Mapping[str, Mapping[str, object]]) -> Section:
    """Show the settings that are not the same in all cells."""
    section = Section("settings", "Settings that differ")
    keys = dict.fromkeys(key for values in settings.values() for key in values)
    differing = [
        key
        for key in keys
        if len({repr(values.get(key)) for values in settings.values() if key in values}) > 1
    ]
    if not differing:
        section.say("All cells have the same settings, apart from those of their method.")
        return section
    rows = [[name, *(str(values.get(key, "")) for key in differing)] for name, values in settings.items()]
    numbers = [False] * (len(differing) + 1)
    section.blocks.append(fragment("table", "By store and method", numbers, ["", *differing], rows))
    return section


def _cell_section(results: Mapping[Cell, CellResult | None], folder: Path) -> Section:
    section = Section("cells", "Cells")
    section.add(*status_tables(results, {}))
    rows = []
    for cell, result in results.items():
        run = cell.folder(folder)
        target = run / "report.html" if (run / "report.html").is_file() else run
        accuracy = percent(result.figure(f"{result.head}.accuracy")) if result and result.head else "-"
        state = result.state if result else "missing"
        rows.append((str(cell), target.relative_to(folder).as_posix(), state, accuracy))
    section.blocks.append(fragment("cells", rows))
    section.say("`mgap report RUN` makes the report of a cell; its link then leads to it.")
    return section


def _in_words(rows: Sequence[Row], table: ComparisonTable) -> str:
    means = ", ".join(f"{row.method} {percent(row.spread.mean)}" for row in rows)
    return f"Mean {table.metric} by method, in per cent: {means}."
