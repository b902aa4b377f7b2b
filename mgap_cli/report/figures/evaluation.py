"""Figures of an evaluation: confusion matrices, reliability diagrams, curves of robustness."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mgap_cli.evaluation.robustness import AUDIO_NOISE, CLEAN, FRAME_NOISE, OCCLUSION
from mgap_cli.report.figures.gap import DPI
from mgap_cli.report.layout import confidence_level, printable, shortened
from mgap_cli.report.palette import GREY, INK, METHOD_STYLES, SHARES, Style, head_styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mgap_cli.evaluation.metrics import Evaluation, HeadMetrics
    from mgap_cli.evaluation.robustness import Condition, Measured
    from mgap_cli.report.tables.evaluation import Contender
    from mgap_cli.stats.arrays import FloatArray

NUMBERED = 12  # up to this number of classes, matrices are in one row; otherwise in a square, beside a list
LONGEST = 18  # characters of a class's name
CONFUSIONS = 14  # in the list
SPARSE = 10  # bins with fewer samples are drawn pale, because their accuracy is uncertain
BANDS = 3  # up to this number of lines, intervals are drawn
UNITS = {
    AUDIO_NOISE: "signal-to-noise ratio, dB",
    FRAME_NOISE: "standard deviation, white = 1",
    OCCLUSION: "share of the frame",
}


@dataclass(frozen=True)
class Line:
    """A curve of robustness: its model, its head, and its colour, dashes and marker."""

    label: str
    contender: Contender
    head: str
    style: Style


def confusion_figure(e: Evaluation) -> Figure:
    """Draw one confusion matrix per head; each row (a true class) has shares of its samples."""
    from matplotlib.figure import Figure

    heads, classes = list(e.heads), len(e.classes)
    names = [shortened(printable(name), LONGEST) for name in e.classes]
    many = classes > NUMBERED
    side = 9.5 if many else max(4.6, 0.62 * classes + 1.6)
    columns = 2 if many else len(heads)
    rows = 2 if many and len(heads) > 1 else 1
    figure = Figure(
        figsize=(columns * side, rows * side + 0.9), dpi=100 if many else DPI, layout="constrained"
    )
    size = 13 if not many else max(7.0, min(13.0, 330 / classes))
    panels = [figure.add_subplot(rows, columns, i + 1) for i in range(len(heads) + many)]
    for axes, head in zip(panels, heads, strict=False):
        m = e.heads[head]
        counts = np.array(m.confusion, dtype=np.float64)
        total = counts.sum(axis=1, keepdims=True)
        shares = np.divide(counts, total, out=np.full_like(counts, np.nan), where=total > 0)
        axes.imshow(shares, cmap=SHARES, vmin=0, vmax=1, aspect="equal")
        _number(axes, shares, size * (0.78 if many else 0.9))
        axes.set_xticks(range(classes), names, rotation=90, fontsize=size, parse_math=False)
        axes.set_yticks(range(classes), names, fontsize=size, parse_math=False)
        axes.set_xlabel("predicted", fontsize=14)
        axes.set_ylabel("true", fontsize=14)
        axes.set_title(f"{head}: {m.accuracy:.1%} right", fontsize=15, loc="left")
        axes.tick_params(length=0)
    if many:
        _list_confusions(panels[-1], e, names)
    figure.suptitle(
        f"Confusion: % of each true class, {e.split} split, n = {e.n}\n{e.name}",
        fontsize=16,
        x=0.01,
        ha="left",
        parse_math=False,
    )
    return figure


def _number(axes: Any, shares: FloatArray, size: float) -> None:
    """Write percentages into the cells that round to one or more."""
    for row, column in np.argwhere(np.nan_to_num(shares) >= 0.005):
        share = shares[row, column]
        colour = "white" if share > 0.55 else INK
        axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=size, color=colour)


def _list_confusions(axes: Any, e: Evaluation, names: Sequence[str]) -> None:
    """List the pairs of classes that the first head confuses most, by share of the true class."""
    head = next(iter(e.heads))
    counts = np.array(e.heads[head].confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(shares, 0)
    order = np.argsort(shares, axis=None, kind="stable")[::-1][:CONFUSIONS]
    lines = [f"Most frequent confusions, {head}", ""]
    for i, j in zip(*np.unravel_index(order, shares.shape), strict=True):
        if shares[i, j] > 0:
            lines.append(f"{shares[i, j]:4.0%} of {names[i]} (n = {counts[i].sum()}) → {names[j]}")
    axes.text(0.02, 0.98, "\n".join(lines), va="top", fontsize=17, linespacing=1.6, parse_math=False)
    axes.axis("off")


def reliability_figure(e: Evaluation) -> Figure:
    """Draw each head's accuracy by confidence, in its colour, with the diagonal and, below, the counts."""
    from matplotlib.figure import Figure

    heads, styles = list(e.heads), head_styles(e.modalities)
    figure = Figure(figsize=(5 * len(heads) + 0.4, 6.6), dpi=DPI, layout="constrained")
    grid = figure.add_gridspec(2, len(heads), height_ratios=[4, 1])
    for column, head in enumerate(heads):
        upper, lower = (figure.add_subplot(grid[row, column]) for row in (0, 1))
        _reliability(upper, lower, head, e.heads[head], styles[head][0], first=column == 0)
    figure.suptitle(
        f"Reliability: accuracy by confidence, {e.split} split, n = {e.n}\n{e.name}",
        fontsize=16,
        x=0.01,
        ha="left",
        parse_math=False,
    )
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=12, frameon=False)
    return figure


def _reliability(upper: Any, lower: Any, head: str, m: HeadMetrics, colour: str, first: bool) -> None:
    reliability = m.reliability
    bins = len(reliability.counts)
    edges = np.linspace(0, 1, bins + 1)
    left, width = edges[:-1], 1 / bins
    accuracy, confidence = (
        np.array([np.nan if v is None else v for v in values])
        for values in (reliability.accuracy, reliability.confidence)
    )
    counts = np.array(reliability.counts)
    for name, line, alpha in (
        ("accuracy", counts >= SPARSE, 0.65),
        (f"accuracy, under {SPARSE} samples", (counts > 0) & (counts < SPARSE), 0.25),
    ):
        upper.bar(
            left[line],
            accuracy[line],
            width,
            align="edge",
            color=colour,
            alpha=alpha,
            ec="white",
            label=name,
        )
    upper.plot(
        confidence,
        confidence,
        linestyle="",
        marker="_",
        markersize=15,
        markeredgewidth=3,
        color=INK,
        label="mean confidence",
    )
    upper.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=1.5, label="calibrated")
    low, high = m.ece_interval.to_list()
    upper.set_title(
        f"{head}: ECE {reliability.ece:.1%} ({100 * low:.1f}–{100 * high:.1f})", fontsize=14, loc="left"
    )
    lower.bar(left, counts / reliability.n, width, align="edge", color=GREY, edgecolor="white")
    lower.axvline(m.accuracy, color=colour, linewidth=2.5)
    lower.axvline(reliability.mean_confidence, color=INK, linewidth=1.5, linestyle="--")
    lower.set_xlabel("confidence", fontsize=14)
    lower.set_ylim(0, 1.1 * counts.max() / reliability.n)
    upper.set_ylim(0, 1)
    for axes in (upper, lower):
        axes.set_xlim(0, 1)
        axes.tick_params(labelsize=12)
        axes.spines[["top", "right"]].set_visible(False)
    if first:
        upper.set_ylabel("accuracy in the bin", fontsize=14)
        lower.set_ylabel("share of\nsamples", fontsize=14)


def robustness_figure(side_by_side: Sequence[Contender]) -> Figure:
    """Draw accuracy over levels: every head of one contender, or the main one of several, at most eight."""
    from matplotlib.figure import Figure

    evaluation = side_by_side[0].members[0].evaluation
    alone, styles = len(side_by_side) == 1, head_styles(evaluation.modalities)
    lines = (
        [Line(head, side_by_side[0], head, styles[head]) for head in evaluation.heads]
        if alone
        else [
            Line(shortened(printable(c.name), 40, middle=True), c, c.head, style)
            for c, style in zip(side_by_side, METHOD_STYLES, strict=False)
        ]
    )
    measured = {m.condition.corruption for m in side_by_side[0].members[0].robustness}
    corruptions = [corruption for corruption in UNITS if corruption in measured]
    rows, columns = (2, 2) if corruptions else (1, 1)
    figure = Figure(figsize=(13, 4.3 * rows), dpi=DPI, layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes in panels[len(corruptions) + 1 :]:
        axes.remove()
    panels = panels[: len(corruptions) + 1]
    for axes, corruption in zip(panels, corruptions, strict=False):
        _curves(axes, corruption, lines)
    _missing(panels[-1], lines)
    for axes in panels:
        axes.axhline(1 / len(evaluation.classes), color=GREY, linestyle=":", linewidth=1.5, label="chance")
        axes.set_ylim(0, 1.02)
        axes.tick_params(labelsize=12)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[::columns]:
        axes.set_ylabel("accuracy", fontsize=14)
    head = "" if alone else f"{'/'.join(dict.fromkeys(line.head for line in lines))} head, "
    left_out = len(side_by_side) - len(METHOD_STYLES)
    band = f"{confidence_level(evaluation.confidence)} interval (Wilson)" if len(lines) <= BANDS else ""
    if any(len(line.contender.members) > 1 for line in lines):
        band = "± 1 standard deviation over seeds"
    figure.suptitle(
        f"Robustness: {head}{evaluation.split} split, n = {evaluation.n}"
        + (f"; band: {band}" if band else "")
        + (f"\n{side_by_side[0].name}" if alone else "")
        + (f"\nthe first {len(METHOD_STYLES)}; {left_out} more are in the table" if left_out > 0 else ""),
        fontsize=16,
        x=0.01,
        ha="left",
        parse_math=False,
    )
    handles, labels = panels[0].get_legend_handles_labels()
    legend = figure.legend(
        handles, labels, loc="outside lower center", ncols=3 if alone else 2, fontsize=12, frameon=False
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


@dataclass(frozen=True)
class _Accuracies:
    """A line's accuracy under each of K conditions: the mean over its members, and a band around it, (K,).

    The band is one standard deviation over seeds to each side or, for a single model, the interval.
    """

    conditions: list[Condition]
    mean: FloatArray
    low: FloatArray
    high: FloatArray


def _accuracies(line: Line, corruptions: Iterable[str]) -> _Accuracies:
    """Return a line's accuracies under all conditions of these corruptions, one corruption after another."""
    members = line.contender.members
    rows = [
        (measured, [member.robustness[i].accuracy[line.head] for member in members])
        for corruption in corruptions
        for i, measured in enumerate(members[0].robustness)
        if measured.condition.corruption == corruption
    ]
    mean = np.array([statistics.fmean(values) for _, values in rows])
    if len(members) > 1:
        sd = np.array([statistics.stdev(values) for _, values in rows])
        low, high = mean - sd, mean + sd
    else:
        bounds = [measured.interval[line.head].to_list() for measured, _ in rows]
        low, high = np.array(bounds, dtype=np.float64).reshape(-1, 2).T
    return _Accuracies([measured.condition for measured, _ in rows], mean, low, high)


def _without_a_modality(line: Line) -> list[Measured]:
    """Return the first member's accuracies without each modality."""
    return [m for m in line.contender.members[0].robustness if m.condition.fill]


def _curves(axes: Any, corruption: str, lines: Sequence[Line]) -> None:
    """Draw one curve per line, with its band; many single models have none."""
    conditions: list[Condition] = []
    for line in lines:
        accuracies = _accuracies(line, (CLEAN, corruption))
        conditions, x = accuracies.conditions, np.arange(len(accuracies.mean))
        colour, dash, marker = line.style
        axes.plot(
            x,
            accuracies.mean,
            color=colour,
            linestyle=dash,
            marker=marker,
            markersize=7,
            linewidth=2.5,
            label=line.label,
        )
        if len(line.contender.members) > 1 or len(lines) <= BANDS:
            axes.fill_between(x, accuracies.low, accuracies.high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xticks(range(len(conditions)), [CLEAN, *(f"{c.level:g}" for c in conditions[1:])])
    axes.set_xlabel(UNITS[corruption], fontsize=13)
    axes.set_title(corruption.capitalize(), fontsize=14, loc="left")


def _missing(axes: Any, lines: Sequence[Line]) -> None:
    """Draw one bar per line for each missing modality and its replacement; the error bar is the band."""
    width = 0.84 / len(lines)
    ticks: list[str] = []
    for index, line in enumerate(lines):
        names = dict.fromkeys(m.condition.corruption for m in _without_a_modality(line))
        accuracies = _accuracies(line, names)
        heights = accuracies.mean
        x = np.arange(len(heights)) + (index - (len(lines) - 1) / 2) * width
        lengths = np.maximum(np.stack([heights - accuracies.low, accuracies.high - heights]), 0)
        axes.bar(x, heights, width, color=line.style[0], edgecolor="white", yerr=lengths, capsize=3)
        ticks = [f"{c.modality}\nby {c.fill}" for c in accuracies.conditions]
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set_title("A modality missing, replaced", fontsize=14, loc="left")
