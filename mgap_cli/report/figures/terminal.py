"""The gap histogram and its posterior curve, drawn with characters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.text import Text

from mgap_cli.gap.mixture import IMBALANCED
from mgap_cli.report.layout import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from mgap_cli.gap.mixture import GapFit
    from mgap_cli.stats.arrays import FloatArray

WIDEST = 100  # columns; a wider terminal is not filled
MARGIN = 8  # columns left of the axis
BAR = 2  # columns per bar
HISTOGRAM_ROWS, POSTERIOR_ROWS = 12, 5
BLOCKS = " ▁▂▃▄▅▆▇█"  # eighths of a cell
ASCII_BLOCKS = " .:#"  # thirds
BALANCED_COLOUR, IMBALANCED_COLOUR = "green", "yellow"  # most like the palette of the figures


@dataclass(frozen=True)
class GapPlot:
    """A rich renderable: histogram of the gaps above the posterior of imbalance, on one axis.

    Bars are coloured by the posterior; ASCII where the console's encoding is not UTF.
    """

    fit: GapFit
    split: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        fit, mixture = self.fit, self.fit.mixture
        bins = max(5, (min(options.max_width, WIDEST) - MARGIN - 1) // BAR)
        blocks = ASCII_BLOCKS if options.ascii_only else BLOCKS
        low = -1.0 if mixture.gap_kind == "signed" else 0.0
        edges = np.linspace(low, 1.0, bins + 1)
        values = np.clip(mixture.value(fit.scores.gap), low, 1.0)
        counts = np.histogram(values, bins=edges)[0].astype(np.float64)
        posterior = mixture.posterior((edges[:-1] + edges[1:]) / 2)
        styles = [IMBALANCED_COLOUR if r >= IMBALANCED else BALANCED_COLOUR for r in posterior]

        where = f"{self.split} split, " if self.split else ""
        n, share = len(fit.scores), fit.balanced_share
        yield Text(f"Modality gaps: {where}n = {n}, {share:.1%} balanced", style="bold")
        yield from _panel(counts, counts.max(), HISTOGRAM_ROWS, f"{counts.max():.0f}", styles, blocks)
        yield Text("posterior of imbalance", style="bold")
        yield from _panel(posterior, 1.0, POSTERIOR_ROWS, "1", styles, blocks)
        yield _axis(low, bins * BAR)
        name = printable(fit.gap_label)
        yield Text(
            " " * MARGIN + f"gap {name}; bars: samples per bin of {edges[1] - edges[0]:.3f}", style="dim"
        )


def _panel(
    values: FloatArray, top: float, rows: int, label: str, styles: list[str], blocks: str
) -> list[Text]:
    """Return `rows` lines of bars, `values` (bins,) over [0, top]; a value above 0 is never invisible."""
    steps = len(blocks) - 1
    heights = np.ceil(values / top * rows * steps - 1e-9).astype(int)
    lines = []
    for row in reversed(range(rows)):
        mark = label if row == rows - 1 else "0" if row == 0 else ""
        line = Text(f"{mark:>{MARGIN - 1}} ", no_wrap=True)
        for filled, style in zip(np.clip(heights - row * steps, 0, steps), styles, strict=True):
            line.append(blocks[filled] * BAR, style=style)
        lines.append(line)
    return lines


def _axis(low: float, columns: int) -> Text:
    """Return the line of tick labels, each centred under its value."""
    line = [" "] * (MARGIN + columns + 1)
    for tick in np.linspace(low, 1.0, 5):
        word = f"{tick:g}"
        centre = MARGIN + (tick - low) / (1.0 - low) * (columns - 1)
        start = min(max(round(centre - (len(word) - 1) / 2), 0), len(line) - len(word))
        line[start : start + len(word)] = word
    return Text("".join(line), no_wrap=True)
