"""A scatter plot of the model's gap over the gap of listeners."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mgap_cli.report.figures.gap import DPI
from mgap_cli.report.palette import GREY, INK, PEOPLE, POSTERIOR

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mgap_cli.analysis.listeners import HumanComparison
    from mgap_cli.gap.mixture import GapFit

JITTER = 0.015  # a dozen votes have few values, so dots are moved at random to be visible


def human_figure(found: HumanComparison, fit: GapFit, split: str = "") -> Figure:
    """Draw each clip at (human gap, model gap); its mark shows for whom it is imbalanced."""
    from matplotlib.figure import Figure

    first, second = found.modalities
    model = fit.scores.gap[found.index]
    human, by_model = found.imbalanced, fit.imbalanced[found.index]
    moved = found.gap + np.random.default_rng(0).uniform(-JITTER, JITTER, found.n)
    figure = Figure(figsize=(8, 7.4), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.axhline(0, color=GREY, linewidth=1)
    axes.axvline(0, color=GREY, linewidth=1)
    size = float(np.clip(6000 / found.n, 5, 40))
    for name, mask, colour, marker in (
        ("neither", ~human & ~by_model, GREY, "o"),
        ("people only", human & ~by_model, PEOPLE, "s"),
        ("the model only", ~human & by_model, POSTERIOR, "^"),
        ("both", human & by_model, INK, "D"),
    ):
        label = f"{name}: {mask.sum()}"
        axes.scatter(
            moved[mask], model[mask], s=size, c=colour, marker=marker, alpha=0.5, linewidths=0, label=label
        )
    axes.set_xlim(-1.05, 1.05)
    axes.set_ylim(-1.05, 1.05)
    axes.set_xlabel("people's gap  (votes by voice − by face)", fontsize=14)
    axes.set_ylabel(f"model's gap  p({first}) − p({second})", fontsize=14, parse_math=False)
    axes.tick_params(labelsize=12)
    axes.spines[["top", "right"]].set_visible(False)
    where = f"{split} split, " if split else ""
    r = "" if found.pearson.value is None else f", r = {found.pearson.value:+.2f}"
    axes.set_title(
        f"Gaps of people and model: {where}n = {found.n}{r}", fontsize=16, loc="left", parse_math=False
    )
    legend = figure.legend(
        loc="outside lower center",
        ncols=4,
        fontsize=12,
        frameon=False,
        title="imbalanced for",
        title_fontsize=12,
    )
    for handle in filter(None, legend.legend_handles):
        handle.set(alpha=1, sizes=[40])
    return figure
