"""Each sample's gap at the last checkpoint over its gap at the first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mgap_cli.gap.mixture import IMBALANCED
from mgap_cli.report import palette
from mgap_cli.report.figures.gap import DPI, GRID
from mgap_cli.report.layout import printable
from mgap_cli.report.palette import GREY, INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mgap_cli.analysis.movement import Movement


def movement_figure(movement: Movement) -> Figure:
    """Draw samples at (gap before, gap after), marked by side; the borders are the first's mixture."""
    from matplotlib.figure import Figure

    mixture = movement.fits[0].mixture
    absolute = mixture.gap_kind == "absolute"
    before, after = (np.clip(mixture.value(gap), -1, 1) for gap in (movement.gaps[0], movement.gaps[-1]))
    was, now = movement.imbalanced[0], movement.imbalanced[-1]
    low = 0.0 if absolute else -1.0
    figure = Figure(figsize=(8.4, 8.6), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.plot([low, 1], [low, 1], color=GREY, linewidth=1)
    x = np.linspace(low, 1.0, GRID)
    side = mixture.posterior(x) >= IMBALANCED
    for i in np.flatnonzero(side[1:] != side[:-1]):
        border = (x[i] + x[i + 1]) / 2
        axes.axvline(border, color=INK, linewidth=1.2, linestyle="--")
        axes.axhline(border, color=INK, linewidth=1.2, linestyle="--")
    size = float(np.clip(9000 / len(before), 4, 40))
    for name, rows, colour, marker in (
        ("stayed balanced", ~was & ~now, GREY, "o"),
        ("stayed imbalanced", was & now, INK, "^"),
        ("moved to balanced", was & ~now, palette.BALANCED, "o"),
        ("moved to imbalanced", ~was & now, palette.IMBALANCED, "s"),
    ):
        label = f"{name}: {rows.sum()} ({rows.mean():.1%})"
        axes.scatter(
            before[rows], after[rows], s=size, c=colour, marker=marker, alpha=0.55, linewidths=0, label=label
        )
    edge = 0.02 * (1 - low)
    axes.set_xlim(low - edge, 1 + edge)
    axes.set_ylim(low - edge, 1 + edge)
    axes.set_aspect("equal")
    first, last = printable(movement.names[0]), printable(movement.names[-1])
    gap = "|gap|" if absolute else "gap"
    axes.set_xlabel(f"{gap} at {first}", fontsize=14, parse_math=False)
    axes.set_ylabel(f"{gap} at {last}", fontsize=14, parse_math=False)
    axes.tick_params(labelsize=12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(
        f"Moves from {first} to {last}\n{printable(movement.split)} split, n = {len(before)}",
        fontsize=16, loc="left", parse_math=False,
    )  # fmt: skip
    legend = figure.legend(
        loc="outside lower center",
        ncols=2,
        fontsize=12,
        frameon=False,
        title=f"dashed: posterior ½ of the mixture of {first}; below the diagonal a gap shrank",
        title_fontsize=12,
    )
    for handle in filter(None, legend.legend_handles):
        handle.set(alpha=1, sizes=[40])
    return figure
