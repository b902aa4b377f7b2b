"""The result of a comparison in plain sentences."""

from __future__ import annotations

from collections.abc import Sequence

from mgap_cli.comparison.statistics import LEVEL, ComparisonTable, Row, seeds_needed, smaller_is_better
from mgap_cli.output import counted, listed


def conclusion(table: ComparisonTable) -> list[str]:
    """Return one sentence per store about the differences, and one if there are too few seeds."""
    sentences = []
    for store in dict.fromkeys(row.store for row in table.rows):
        rows = [row for row in table.rows if row.store == store]
        if any(row.method == table.reference for row in rows):
            sentences.append(_against_reference(store, rows, table))
        else:
            sentences.append(_untested(store, rows, table))
    few = _too_few_seeds(table)
    return [*sentences, few] if few else sentences


def _untested(store: str, rows: Sequence[Row], table: ComparisonTable) -> str:
    if len(rows) == 1:
        return (
            f"{store}: {rows[0].method} is the only method with a result; nothing is tested, since "
            f"{table.reference} has none."
        )
    best = _best(rows, table.metric).method
    return (
        f"{store}: {best} has the best mean {table.metric} of {len(rows)} methods; "
        f"nothing is tested, since {table.reference} is not among them."
    )


def _against_reference(store: str, rows: Sequence[Row], table: ComparisonTable) -> str:
    real = [row for row in rows if row.against and row.against.real]
    tested = sum(row.against is not None for row in rows)
    if not tested:
        return f"{store}: there is no other method to compare with {table.reference}."
    if not real:
        what = "the other method" if tested == 1 else f"none of the {tested} other methods"
        verb = "cannot" if tested == 1 else "can"
        return f"{store}: {what} {verb} be told apart from {table.reference} by {table.metric}."
    parts = []
    for word, sign in (("better", 1), ("worse", -1)):
        names = [_named(row, table) for row in real if _gain(row, table.metric) * sign > 0]
        if names:
            parts.append(f"{listed(names)} {'is' if len(names) == 1 else 'are'} {word}")
    rest = tested - len(real)
    others = f"; {counted(rest, 'other')} cannot be told apart from it" if rest else ""
    return f"{store}: compared with {table.reference}, {' and '.join(parts)}{others}."


def _too_few_seeds(table: ComparisonTable) -> str:
    """Return a sentence for too few seeds, with which no difference can pass the corrected test."""
    seeds = [len(row.against.seeds) for row in table.rows if row.against]
    needed = seeds_needed(table.tests)
    if not seeds or max(seeds) >= needed:
        return ""
    return (
        f"{counted(max(seeds), 'seed')} cannot show a difference between methods at level {LEVEL:g} "
        f"after correction for {counted(table.tests, 'test')}, however large it is; {needed} seeds can."
    )


def _named(row: Row, table: ComparisonTable) -> str:
    assert row.against is not None
    difference = row.against.difference.mean
    size = f"{100 * abs(difference):.1f} points" if table.in_percent else f"{abs(difference):.3f}"
    return f"{row.method} (by {size}, corrected p {row.against.adjusted_seeds:.3f})"


def _gain(row: Row, metric: str) -> float:
    assert row.against is not None
    return row.against.difference.mean * (-1 if smaller_is_better(metric) else 1)


def _best(rows: Sequence[Row], metric: str) -> Row:
    sign = -1 if smaller_is_better(metric) else 1
    return max(rows, key=lambda row: sign * row.spread.mean)
