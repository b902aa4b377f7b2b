"""The state of a comparison's cells, and their training time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal, get_args

from rich.console import RenderableType

from mgap_cli.comparison.cell_result import CellResult
from mgap_cli.comparison.plan import Cell
from mgap_cli.comparison.slurm_jobs import AtWork
from mgap_cli.report.layout import add_numbers, cropped, new_table, titled

State = Literal["done", "running", "queued", "failed", "missing"]
_LONGEST_LIST = 20  # failed cells whose error is shown


def state_of(cell: Cell, result: CellResult | None, at_work: Mapping[Cell, AtWork]) -> State:
    """Return the state of a cell. A failed cell that is tried again is queued or running."""
    if cell in at_work and not (result and result.state == "done"):
        return at_work[cell]
    return result.state if result else "missing"


def status_tables(
    results: Mapping[Cell, CellResult | None], at_work: Mapping[Cell, AtWork]
) -> list[RenderableType]:
    """Return how many cells of each store and method are in which state, and the errors of failed ones."""
    table = new_table()
    table.add_column("store")
    table.add_column("method")
    add_numbers(table, *get_args(State), "hours")
    for store, method in dict.fromkeys((cell.store, cell.counted_as) for cell in results):
        cells = [cell for cell in results if (cell.store, cell.counted_as) == (store, method)]
        states = Counter(state_of(cell, results[cell], at_work) for cell in cells)
        hours = sum(result.seconds for cell in cells if (result := results[cell])) / 3600
        counts = (str(states[state]) for state in get_args(State))
        table.add_row(cropped(store), cropped(method), *counts, f"{hours:.2f}")
    total = Counter(state_of(cell, result, at_work) for cell, result in results.items())
    title = f"Cells: {len(results)}, {', '.join(f'{n} {state}' for state, n in total.items())}"
    tables: list[RenderableType] = [
        titled(title, table, "hours: training time on a GPU or on a CPU's cores.")
    ]
    failed = [(cell, result) for cell, result in results.items() if result and result.state == "failed"]
    if failed:
        errors = [f"{cell}: {result.error}" for cell, result in failed[:_LONGEST_LIST]]
        more = [f"and {len(failed) - _LONGEST_LIST} more"] if len(failed) > _LONGEST_LIST else []
        tables.append(titled("Failed cells", None, *errors, *more))
    return tables
