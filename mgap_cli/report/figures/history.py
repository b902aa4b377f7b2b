"""The mixture and the heads' accuracies over the epochs of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mgap_cli.gap.scores import FUSED
from mgap_cli.report.figures.gap import DPI
from mgap_cli.report.layout import printable
from mgap_cli.report.palette import BALANCED, DIM, GREY, head_styles, role_style
from mgap_cli.report.tables.movement import (
    Entries,
    by_role,
    component_roles,
    heads_of_entries,
    measured_split,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def history_figure(entries: Entries, name: str) -> Figure:
    """Draw accuracies and, where a mixture was fitted, means with standard deviations, and weights."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    fitted = any("mixture" in entry for entry in entries)
    rows = 3 if fitted else 1
    figure = Figure(figsize=(10, 2.9 * rows + 1.1), dpi=DPI, layout="constrained")
    panels = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    x = np.arange(1, len(entries) + 1)
    split = measured_split(entries)
    _accuracies(panels[0], entries, x, split)
    if fitted:
        _components(panels[1], panels[2], entries, x)
    borders = [i for i in range(1, len(entries)) if entries[i]["stage"] != entries[i - 1]["stage"]]
    for axes in panels:
        for i in borders:
            axes.axvline(i + 0.5, color=GREY, linewidth=1.5, linestyle=":")
        axes.tick_params(labelsize=12)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=12, frameon=False)
    for i in [0, *borders]:
        panels[0].text(
            i + 0.55, 103, printable(str(entries[i]["stage"])), fontsize=12, color=DIM, parse_math=False
        )
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[-1].set_xlim(0.5, len(entries) + 0.5)
    panels[-1].set_xlabel("epoch, all stages together", fontsize=14)
    figure.suptitle(
        f"{printable(name)}: {'mixture and ' if fitted else ''}accuracy over time",
        fontsize=16, x=0.01, ha="left", parse_math=False,
    )  # fmt: skip
    return figure


def _accuracies(axes: Axes, entries: Entries, x: np.ndarray, split: str) -> None:
    heads = heads_of_entries(entries)
    styles = head_styles(heads)
    for head in heads:
        values = [entry.get(split, {}).get(head) for entry in entries]
        if any(value is not None for value in values):
            colour, dash, marker = styles[head]
            heights = [np.nan if value is None else 100 * value for value in values]
            axes.plot(x, heights, color=colour, marker=marker, linestyle=dash, linewidth=2, label=head)
    axes.set_ylim(0, 102)
    axes.set_ylabel(f"accuracy, {split}, %", fontsize=14)


def _components(means: Axes, weights: Axes, entries: Entries, x: np.ndarray) -> None:
    mixtures: list[dict[str, Any] | None] = [entry.get("mixture") for entry in entries]
    modalities = [head for head in heads_of_entries(entries) if head != FUSED]
    followed = [by_role(m) if m else {} for m in mixtures]
    for number, key in enumerate(component_roles([m for m in mixtures if m])):
        rows, role = [components.get(key) for components in followed], key[0]
        mean, sd, weight = (
            np.array([row[key] if row else np.nan for row in rows]) for key in ("mean", "sd", "weight")
        )
        colour, dash, _ = role_style(role, modalities)
        style: dict[str, Any] = {
            "color": colour,
            "linestyle": dash,
            "marker": "os^D"[number % 4],
        }
        means.fill_between(x, mean - sd, mean + sd, color=colour, alpha=0.15, linewidth=0)
        means.plot(x, mean, linewidth=2, label=role, **style)
        weights.plot(x, 100 * weight, linewidth=2, label=f"weight, {role}", **style)
    share = [100 * m["balanced_share"] if m else np.nan for m in mixtures]
    weights.plot(x, share, color=BALANCED, marker="x", linewidth=2, label="samples balanced")
    gap_kind = next(m["kind"] for m in mixtures if m)
    means.set_ylabel(f"mean ± sd of {'|gap|' if gap_kind == 'absolute' else 'gap'}", fontsize=14)
    weights.set_ylim(0, 102)
    weights.set_ylabel("share, %", fontsize=14)
