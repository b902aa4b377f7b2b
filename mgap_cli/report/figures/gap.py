"""Figures as PNG bytes, drawn through matplotlib's object interface: no global state, no display."""

from __future__ import annotations

import io
import textwrap
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mgap_cli.files import atomic_write
from mgap_cli.gap.mixture import IMBALANCED
from mgap_cli.output import Output
from mgap_cli.processes import is_main
from mgap_cli.report.palette import GREY, INK, POSTERIOR, role_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mgap_cli.gap.mixture import GapFit

BINS = 50
GRID = 801  # points of a curve
DPI = 150
SENTENCE_WIDTH = 100  # characters of the verdict on one line
SENTENCE_LINE = 17  # height of one of its lines in points


def gap_figure(fit: GapFit, split: str = "") -> Figure:
    """Draw the histogram of the gaps, the mixture and its components, the posterior and the verdict."""
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke

    mixture, scores = fit.mixture, fit.scores
    signed = mixture.gap_kind == "signed"
    low = -1.0 if signed else 0.0
    values = np.clip(mixture.value(scores.gap), low, 1.0)  # a rounding error beyond 1 is still a sample
    x = np.linspace(low, 1.0, GRID)
    density = mixture.density(x)  # (K, GRID)

    figure = Figure(figsize=(10, 5.6), dpi=DPI, layout="constrained")
    left = figure.add_subplot()
    heights = np.histogram(values, bins=BINS, range=(low, 1.0), density=True)[0]
    top = 1.08 * max(float(heights.max()), float(density.sum(axis=0).max()))
    left.stairs(heights, np.linspace(low, 1.0, BINS + 1), fill=True, color=GREY, alpha=0.45, label="samples")
    left.plot(x, density.sum(axis=0), color=INK, linewidth=5, alpha=0.35, label="mixture")
    for k in range(len(mixture.weights)):
        role, style = fit.role(k), role_style(fit.role(k), scores.modalities)
        left.plot(
            x,
            np.where(density[k] > top / 500, density[k], np.nan),  # no line along the axis
            color=style[0],
            linestyle=style[1],
            linewidth=2.5,
            label=f"{role}: weight {mixture.weights[k]:.2f}, mean {mixture.means[k]:.2f}",
        )
    left.set_xlim(low, 1.0)
    left.set_ylim(0, top)
    left.set_xlabel(f"modality gap  {fit.gap_label.replace(' - ', ' − ')}", fontsize=14, parse_math=False)
    left.set_ylabel("density of samples", fontsize=14)

    right = left.twinx()
    posterior = mixture.posterior(x)
    right.plot(x, posterior, color=POSTERIOR, linewidth=2.5, label="posterior of imbalance")
    for i in np.flatnonzero(np.diff(posterior >= IMBALANCED)):
        border = (x[i] + x[i + 1]) / 2
        right.plot(border, IMBALANCED, marker="o", markersize=8, color=POSTERIOR)
        right.annotate(
            f"½ at {border:.2f}",
            (border, 0.5),
            (10, -5),
            textcoords="offset points",
            fontsize=12,
            color=POSTERIOR,
            path_effects=[withStroke(linewidth=4, foreground="white")],
        )
    right.set_ylim(0, 1.04)
    right.set_ylabel("posterior of imbalance", fontsize=14, color=POSTERIOR)
    for axes in (left, right):
        axes.tick_params(labelsize=12)
        axes.spines["top"].set_visible(False)

    where = "" if not split else f"{split}, " if split == "-".join(scores.modalities) else f"{split} split, "
    said = fit.bimodality.sentence if fit.bimodality else ""
    sentence = textwrap.wrap(said[:1].upper() + said[1:], SENTENCE_WIDTH)
    left.set_title(
        f"Modality gaps: {where}n = {len(scores)}, {fit.balanced_share:.1%} balanced",
        fontsize=16,
        loc="left",
        parse_math=False,
        pad=10 + SENTENCE_LINE * len(sentence),
    )
    left.text(0, 1.02, "\n".join(sentence), transform=left.transAxes, fontsize=12, parse_math=False)
    handles = [
        handle for axes in (left, right) for handle in zip(*axes.get_legend_handles_labels(), strict=True)
    ]
    figure.legend(
        *zip(*handles, strict=True), loc="outside lower center", ncols=2, fontsize=12, frameon=False
    )
    return figure


def png_bytes(figure: Figure) -> bytes:
    """Return the figure as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the font lacks are drawn as boxes
        FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def write_png(figure: Figure, path: Path, sink: Output) -> None:
    """Write the figure and log its path; with several processes, only the main one does."""
    if not is_main():
        return
    with atomic_write(path) as file:
        file.write(png_bytes(figure))
    sink.log(f"wrote {path}")
