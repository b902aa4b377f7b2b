"""The output of `mgap compare`: its cells before and while they run, and the table of their results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgap_cli.comparison.cell_result import RULE_PREFIX, CellResult
from mgap_cli.comparison.plan import DEFAULT_METRIC, Cell, Trial
from mgap_cli.config import RULES
from mgap_cli.errors import MgapError, UnfitError, UsageError
from mgap_cli.methods import FAIR_BASELINE, PLAIN
from mgap_cli.output import Output
from mgap_cli.report.schemas import schema
from mgap_cli.workflow.comparison import (
    Comparison,
    cells_at_work,
    deciding_settings,
    read_results,
    read_trials,
)
from mgap_cli.workflow.tuning import tunings, with_chosen_values

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mgap_cli.comparison.statistics import ComparisonTable
    from mgap_cli.report.comparison_table import Format

View = tuple[Any, ...]  # a JSON document, and the tables or text for the terminal


def dry_run_view(comparison: Comparison, results: Path) -> View:
    """Return the trials and cells with their epochs, and the estimated hours from the finished ones."""
    by_cell = {**read_trials(comparison, results), **read_results(comparison, results)}
    epochs = comparison.epochs()
    lines = [
        f"{cell}: {epochs[cell.store]} epochs{', done' if _is_over(cell, result) else ''}"
        for cell, result in by_cell.items()
    ]
    left = [cell for cell, result in by_cell.items() if not _is_over(cell, result)]
    trials = sum(isinstance(cell, Trial) for cell in left)
    hours = _estimated_hours(by_cell, left)
    total = sum(epochs[cell.store] for cell in left)
    estimate = (
        f"about {hours:.2f} hours of training, estimated from the finished cells"
        if hours is not None
        else "no estimate of the time before the first cell is finished"
    )
    document = {
        "schema": schema("compare-dry-run"),
        "cells": [_named(cell) for cell in by_cell],
        "left": len(left),
        "trials_left": trials,
        "epochs_left": total,
        "hours_left": hours,
    }
    return document, "\n".join(
        [
            *lines,
            f"{len(left)} of {len(by_cell)} cells to run{f' ({trials} of them trials)' if trials else ''}, "
            f"{total} epochs: {estimate}.",
        ]
    )


def status_view(comparison: Comparison, results: Path) -> View:
    """Return the state of every trial and cell."""
    from mgap_cli.report.tables.cells import state_of, status_tables

    by_cell = {**read_trials(comparison, results), **read_results(comparison, results)}
    at_work = cells_at_work(comparison, results)
    document = {
        "schema": schema("compare-status"),
        "cells": [
            {
                **_named(cell),
                "state": state_of(cell, result, at_work),
                "seconds": result.seconds if result else None,
                "error": result.error if result else "",
            }
            for cell, result in by_cell.items()
        ],
    }
    return document, *status_tables(by_cell, at_work)


def chosen_metric(metric: str, rule: str | None) -> str:
    """Return the metric by which methods are compared: the accuracy of the decision rule, if one is given.

    Raises UsageError if both are given, and for a user's own rule: cells record only the rules of mgap.
    """
    if rule is None:
        return metric
    if metric != DEFAULT_METRIC:
        raise UsageError("--rule and --metric were both given.", "Give one of them.")
    if rule not in RULES.names():
        raise UsageError(
            f"--rule: unknown decision rule {rule!r}.", f"Choose one of: {', '.join(RULES.names())}."
        )
    return f"{RULE_PREFIX}{rule}.accuracy"


def table_view(
    comparison: Comparison,
    results: Path,
    metric: str,
    reference: str | None,
    form: Format | None,
    sink: Output,
) -> View:
    """Return the document and the table of the finished cells, in the user's format.

    Raises UnfitError if no cell is finished, and UsageError for a metric or a reference that no cell has.
    """
    from mgap_cli.comparison.conclusion import conclusion
    from mgap_cli.report import comparison_table as tables
    from mgap_cli.report.documents import comparison_document
    from mgap_cli.report.layout import verbatim

    every = read_results(comparison, results)
    done = _finished(every)
    table = _statistics(comparison, results, done, metric, reference)
    sentences = conclusion(table)
    document = comparison_document(table, sentences, done)
    rendered: list[RenderableType]
    if form == "markdown":
        rendered = [tables.markdown(table)]
    elif form == "latex":
        rendered = [tables.latex(table)]
    elif form == "csv":
        rendered = [tables.csv_text(table)]
    else:
        beside = _published_tables(comparison, done)
        rendered = [*tables.comparison_tables(table), *beside, verbatim("\n".join(sentences))]
    missing = len(every) - len(done)
    if missing:
        sink.warn(f"{results}: {missing} of {len(every)} cells are not in the table; see --status.")
    return document, *rendered


def write_page(
    comparison: Comparison,
    results: Path,
    metric: str = DEFAULT_METRIC,
    reference: str | None = None,
    path: Path | None = None,
) -> Path:
    """Write the page of a comparison to index.html in its folder, or to `path`; return its path.

    Raises as `table_view` does.
    """
    from mgap_cli.comparison.statistics import GAP_METRIC, compare_methods
    from mgap_cli.files import write_text
    from mgap_cli.report.page.comparison_page import comparison_page

    every = read_results(comparison, results)
    done = _finished(every)
    settings = {
        name: deciding_settings(tree)
        for name, tree in with_chosen_values(comparison, results).settings.items()
    }
    path = path or results / "index.html"
    table = _statistics(comparison, results, done, metric, reference)
    gaps = compare_methods(done, GAP_METRIC, table.reference, PLAIN)
    beside = _published_tables(comparison, done)
    write_text(path, comparison_page(table, gaps, every, settings, results, beside))
    return path


def raise_for_failures(comparison: Comparison, results: Path) -> None:
    """Raise MgapError if a cell has failed."""
    by_cell = read_results(comparison, results).items()
    failed = [cell for cell, result in by_cell if result and result.state == "failed"]
    if failed:
        raise MgapError(
            f"{len(failed)} of {len(by_cell)} cells failed; the first is {failed[0]} "
            f"(see {failed[0].log(results)}).",
            "Correct the cause, then run the same command again with --retry-failed.",
        )


def _published_tables(comparison: Comparison, done: Sequence[CellResult]) -> list[RenderableType]:
    """Return the published accuracies on the data set of each store that can be opened."""
    from mgap_cli.data.store import open_store
    from mgap_cli.report.tables.published import published_table

    tables = []
    for name, path in comparison.stores.items():
        n = max((result.test_samples for result in done if result.cell.store == name), default=0)
        with suppress(MgapError):  # the table of results does not need a store that was deleted
            if table := published_table(open_store(Path(path)).name, n):
                tables.append(table)
    return tables


def _named(cell: Cell) -> dict[str, Any]:
    number = cell.number if isinstance(cell, Trial) else None
    return {"store": cell.store, "method": cell.method, "seed": cell.seed, "trial": number}


def _is_over(cell: Cell, result: CellResult | None) -> bool:
    """Return whether nothing is left to run: a failed trial counts as finished."""
    return result is not None and (result.state == "done" or isinstance(cell, Trial))


def _finished(every: Mapping[Cell, CellResult | None]) -> list[CellResult]:
    return [result for result in every.values() if result and result.state == "done"]


def _statistics(
    comparison: Comparison,
    results: Path,
    done: Sequence[CellResult],
    metric: str,
    reference: str | None,
) -> ComparisonTable:
    from mgap_cli.comparison.statistics import compare_methods

    if not done:
        raise UnfitError(
            f"{results}: no cell of this comparison is finished.", "See `mgap compare RESULTS --status`."
        )
    if all(result.figure(metric) is None for result in done):
        known = sorted({name for result in done for name in result.figures.get("test", {})})
        raise UsageError(f"--metric {metric}: no cell has it.", f"Choose one of: {', '.join(known)}.")
    if reference and reference not in comparison.methods:
        raise UsageError(
            f"--reference {reference}: this comparison has no such method.",
            f"Choose one of: {', '.join(comparison.methods)}.",
        )
    table = compare_methods(done, metric, reference or FAIR_BASELINE, PLAIN)
    return replace(table, tunings=tunings(comparison, results))


def _estimated_hours(by_cell: Mapping[Cell, CellResult | None], left: list[Cell]) -> float | None:
    """Return the estimated hours of the cells `left`, from finished cells of the same method or store."""
    done = _finished(by_cell)
    if not done:
        return None
    total = 0.0
    for cell in left:
        alike = [r for r in done if (r.cell.store, r.cell.method) == (cell.store, cell.method)]
        alike = alike or [r for r in done if r.cell.store == cell.store] or done
        total += sum(r.seconds for r in alike) / len(alike)
    return total / 3600
