"""Figures of a comparison: methods with intervals, against their cost, against one modality, and ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mgap_cli.comparison.statistics import ComparisonTable, Ranks, Row, smaller_is_better
from mgap_cli.report.figures.gap import DPI
from mgap_cli.report.layout import printable
from mgap_cli.report.palette import DIM, GREY, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW = 0.32  # height in inches for each method


def method_figure(rows: Sequence[Row], table: ComparisonTable) -> Figure:
    """Draw each method of a store, the best on top: its seeds, its mean and the interval of the mean.

    A filled mark shows that the corrected test finds a difference to the reference, whose mean is the dashed
    line.
    """
    from matplotlib.figure import Figure

    sign = -1 if smaller_is_better(table.metric) else 1
    ordered = sorted(rows, key=lambda row: sign * row.spread.mean)
    figure = Figure(figsize=(8.5, 1.4 + _ROW * len(ordered)), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    for y, row in enumerate(ordered):
        axes.scatter(
            [_scaled(v, table) for v in row.values.values()], [y] * len(row.values), s=14, color=GREY
        )
        mean = _scaled(row.spread.mean, table)
        if row.interval:
            ends = [_scaled(row.interval.low, table), _scaled(row.interval.high, table)]
            axes.plot(ends, [y, y], color=INK, linewidth=1.8)
        told_apart = row.against is not None and row.against.real
        axes.plot([mean], [y], "o", color=INK, markerfacecolor=INK if told_apart else "white", markersize=7)
        if row.method == table.reference:
            axes.axvline(mean, color=DIM, linestyle="--", linewidth=1, zorder=0)
    axes.set_yticks(range(len(ordered)), [printable(row.method) for row in ordered], fontsize=11)
    axes.set_xlabel(_label(table), fontsize=12)
    _plain(axes)
    return figure


def cost_figure(rows: Sequence[Row], table: ComparisonTable) -> Figure:
    """Draw the metric over training time relative to `joint`, one named point per method."""
    costs = {row.method: row.cost for row in rows if row.cost is not None}
    return _scatter_figure(rows, costs, "training time, relative to joint", table)[0]


def one_modality_figure(rows: Sequence[Row], table: ComparisonTable) -> Figure:
    """Draw the metric over that of the best single head; below the line, one modality is the better one."""
    best = {row.method: _scaled(max(row.others.values()), table) for row in rows if row.others}
    figure, axes = _scatter_figure(rows, best, "the best head of one modality, %", table)
    ends = [min(best.values()), max(best.values())]
    axes.plot(ends, ends, color=DIM, linestyle="--", linewidth=1, zorder=0)
    return figure


def rank_figure(ranks: Ranks) -> Figure:
    """Draw average ranks; a bar joins methods that cannot be told apart (after Demšar, 2006)."""
    from matplotlib.figure import Figure

    ordered = sorted(ranks.average.items(), key=lambda item: item[1])
    figure = Figure(figsize=(8.5, 1.6 + _ROW * len(ordered)), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    for y, (_, rank) in enumerate(reversed(ordered)):
        axes.plot([rank], [y], "o", color=INK, markersize=7)
    top = len(ordered) - 1
    for number, (first, last) in enumerate(groups_of_equals([rank for _, rank in ordered], ranks.critical)):
        ends = [ordered[first][1], ordered[last][1]]
        axes.plot(ends, [top + 0.6 + 0.25 * number] * 2, color=INK, linewidth=3, solid_capstyle="butt")
    axes.set_yticks(range(len(ordered)), [printable(name) for name, _ in reversed(ordered)], fontsize=11)
    axes.set_xlabel(f"average rank over {ranks.stores} stores; critical difference {ranks.critical:.2f}")
    _plain(axes)
    return figure


def groups_of_equals(ranks: Sequence[float], critical: float) -> list[tuple[int, int]]:
    """Return the largest runs (first, last) of ascending ranks that differ by less than `critical`."""
    groups: list[tuple[int, int]] = []
    for first in range(len(ranks)):
        last = max(i for i in range(first, len(ranks)) if i == first or ranks[i] - ranks[first] < critical)
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return groups


def _scatter_figure(
    rows: Sequence[Row], x: Mapping[str, float], x_label: str, table: ComparisonTable
) -> tuple[Figure, Axes]:
    """Draw the metric of each method over its `x`: one labelled point for each method that has an `x`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 5), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    heights = {row.method: _scaled(row.spread.mean, table) for row in rows if row.method in x}
    axes.scatter([x[method] for method in heights], [*heights.values()], color=INK, s=28)
    for method, height in heights.items():
        axes.annotate(
            printable(method),
            (x[method], height),
            xytext=(5, 4),
            textcoords="offset points",
            fontsize=9,
            parse_math=False,
        )
    axes.set_xlabel(x_label, fontsize=12)
    axes.set_ylabel(_label(table), fontsize=12)
    _plain(axes)
    return figure, axes


def _scaled(value: float, table: ComparisonTable) -> float:
    return 100 * value if table.in_percent else value


def _label(table: ComparisonTable) -> str:
    return f"{table.metric} on test{', %' if table.in_percent else ''}"


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=11)
