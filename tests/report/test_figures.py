"""The figure and the terminal plot: everything is drawn in the right place and colour."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
from helpers.judgements import judgement
from matplotlib import colors, image
from rich.cells import cell_len
from rich.console import Console

from mgap_cli.gap.bimodality import Bimodality
from mgap_cli.gap.mixture import GapFit
from mgap_cli.report import palette
from mgap_cli.report.figures import gap as plots
from mgap_cli.report.figures.evaluation import reliability_figure, robustness_figure
from mgap_cli.report.figures.history import history_figure
from mgap_cli.report.figures.terminal import BAR, HISTOGRAM_ROWS, MARGIN, WIDEST, GapPlot
from mgap_cli.report.tables.evaluation import Contender


def pixels(fit: GapFit) -> np.ndarray:
    png = plots.png_bytes(plots.gap_figure(fit, "train"))
    assert png.startswith(b"\x89PNG\r\n")
    return image.imread(io.BytesIO(png))[:, :, :3]


def count(picture: np.ndarray, colour: str) -> int:
    return int((np.abs(picture - np.array(colors.to_rgb(colour))).max(axis=2) < 0.02).sum())


@pytest.mark.parametrize("name", ["fit", "signed_fit"])
def test_every_curve_is_in_the_picture(name: str, request: pytest.FixtureRequest):
    fit = request.getfixturevalue(name)
    picture = pixels(fit)
    assert picture.shape[1] == 1500
    drawn = {fit.role(k) for k in range(len(fit.mixture.weights))}
    for role in ("balanced", "imbalanced", "audio-dominated", "visual-dominated"):
        colour = palette.role_style(role, ("audio", "visual"))[0]
        assert (count(picture, colour) > 300) == (role in drawn), role
    assert count(picture, palette.POSTERIOR) > 2000


def test_figure_states_what_it_shows(fit: GapFit):
    figure = plots.gap_figure(fit, "$\\bad split")  # not read as mathematics
    left, right = figure.axes
    assert (
        left.get_title("left")
        == f"Modality gaps: $\\bad split split, n = 300, {fit.balanced_share:.1%} balanced"
    )
    assert left.get_xlabel() and left.get_ylabel() and right.get_ylabel() == "posterior of imbalance"
    assert plots.png_bytes(figure)
    (bars,) = left.patches
    heights, edges, _ = bars.get_data()
    assert heights.sum() * (edges[1] - edges[0]) == pytest.approx(1.0)  # every sample is in a bar
    curve = next(line for line in right.lines if line.get_label() == "posterior of imbalance")
    x, r = curve.get_data()
    assert x[np.argmax(r >= 0.5)] == pytest.approx(fit.crossing, abs=0.005)


def test_the_verdict_is_above_the_histogram_and_inside_the_picture(fit: GapFit):
    long = (
        "two components without a valley between them: a minority, or one population with a heavy tail, "
        "which the gaps cannot tell apart (91.5% balanced, $audio_recording^ leads in all of the imbalanced)"
    )
    said = dataclasses.replace(fit, bimodality=Bimodality("no valley", long, 99, 0.95))
    figure = plots.gap_figure(said, "train")
    assert plots.png_bytes(figure)  # lays the figure out
    axes = figure.axes[0]
    (text,) = axes.texts
    assert text.get_text().replace("\n", " ") == long.replace("two", "Two", 1)
    area, whole = text.get_window_extent(), figure.bbox
    heading = axes._left_title.get_window_extent()
    assert axes.get_window_extent().y1 < area.y0 and area.y1 < heading.y0 and heading.y1 <= whole.y1
    assert whole.x0 <= area.x0 and area.x1 <= whole.x1


def test_constant_gaps_have_a_figure(constant_fit: GapFit):
    assert count(pixels(constant_fit), palette.BALANCED) > 300


def test_one_colour_means_one_thing():
    """No figure has other colours than the palette, and no two meanings share a colour."""
    folder = Path(plots.__file__).parent
    for path in folder.glob("*.py"):
        if path.name not in ("palette.py",):
            assert not re.findall(r"#[0-9A-Fa-f]{6}\b|\btab:|[\"']C\d[\"']", path.read_text()), path.name
    meanings = [
        palette.INK, palette.GREY, palette.DIM, palette.BALANCED,
        palette.IMBALANCED, palette.POSTERIOR, palette.PEOPLE,
        *(colour for colour, *_ in (*palette.MODALITY_STYLES, *palette.METHOD_STYLES)),
        *(colour for colour in palette.SPLIT_COLOURS.values() if colour != palette.INK),
    ]  # fmt: skip
    assert len({colour.upper() for colour in meanings}) == len(meanings)


def test_a_modality_has_its_colour_in_every_figure(signed_fit: GapFit):
    densities = {line.get_label().split(":")[0]: line for line in plots.gap_figure(signed_fit).axes[0].lines}
    entries = [{"stage": "warmup", "val": {"fused": 0.5, "audio": 0.4, "visual": 0.3}}] * 2
    over_time = {line.get_label(): line for line in history_figure(entries, "run").axes[0].lines}
    alone = robustness_figure([Contender("one", (judgement(),))])
    robustness = {line.get_label(): line for line in alone.axes[0].lines}
    bars = {
        axes.get_title("left").split(":")[0]: axes.patches[0].get_facecolor()[:3]
        for axes in reliability_figure(judgement(n=400).evaluation).axes
        if axes.get_title("left")
    }
    for head in ("audio", "visual"):
        colour = palette.head_styles([head])[head][0]
        assert densities[f"{head}-dominated"].get_color() == colour
        assert over_time[head].get_color() == robustness[head].get_color() == colour
        assert bars[head] == colors.to_rgb(colour)


def drawn(fit: GapFit, width: int, encoding: str = "utf-8", **kwargs) -> list[str]:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    Console(file=stream, width=width, **kwargs).print(GapPlot(fit, "train"))
    stream.flush()
    return raw.getvalue().decode(encoding).splitlines()


@pytest.mark.parametrize("width", [40, 80, 300])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_terminal_plot_keeps_its_width(fit: GapFit, width: int, encoding: str):
    lines = drawn(fit, width, encoding)
    assert max(map(cell_len, lines[1:])) <= min(width, WIDEST)
    assert ("█" in "".join(lines)) == (encoding == "utf-8")


def test_terminal_bars_have_the_heights_of_the_histogram(fit: GapFit):
    rows = [line[MARGIN:].ljust(80) for line in drawn(fit, 80)[1 : 1 + HISTOGRAM_ROWS]]
    bins = (80 - MARGIN - 1) // BAR
    counts, _ = np.histogram(np.abs(fit.scores.gap), bins=bins, range=(0, 1))
    eighths = [sum(" ▁▂▃▄▅▆▇█".index(row[b * BAR]) for row in rows) for b in range(bins)]
    expected = counts / counts.max() * HISTOGRAM_ROWS * 8
    assert np.abs(np.array(eighths) - expected).max() <= 1
    assert [e > 0 for e in eighths] == [c > 0 for c in counts]


def test_terminal_colours_change_at_the_crossing(fit: GapFit):
    line = drawn(fit, 80, force_terminal=True, color_system="standard")[HISTOGRAM_ROWS]
    assert "\x1b[32m" in line and "\x1b[33m" in line  # green: balanced; yellow: imbalanced
    assert line.rindex("\x1b[32m") < line.index("\x1b[33m")


def test_constant_gaps_have_a_terminal_plot(constant_fit: GapFit):
    lines = drawn(constant_fit, 80)
    assert lines[1].startswith(" " * (MARGIN - 3) + "20 █")
    assert "100.0% balanced" in lines[0]
