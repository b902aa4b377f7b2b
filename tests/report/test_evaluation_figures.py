"""Figures of evaluations show the measured values, for few and for many classes."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.judgements import HEADS, judgement
from matplotlib.container import BarContainer

from mgap_cli.report.figures import evaluation as plots
from mgap_cli.report.figures.gap import png_bytes
from mgap_cli.report.tables.evaluation import Contender


@pytest.mark.parametrize("classes", [6, 10, 28])
def test_confusion_matrices_show_every_class(classes: int):
    names = tuple(f"$class_{i}$ [b]" for i in range(classes))
    e = judgement(classes=names, n=400).evaluation
    figure = plots.confusion_figure(e)
    panels = {axes.get_title("left").split(":")[0]: axes for axes in figure.axes}
    for head in HEADS:
        (picture,) = panels[head].images
        shares = np.ma.filled(picture.get_array(), np.nan)
        counts = np.array(e.heads[head].confusion, dtype=float)
        filled = counts.sum(axis=1) > 0
        np.testing.assert_allclose(shares[filled], counts[filled] / counts[filled].sum(axis=1, keepdims=True))
        assert np.isnan(shares[~filled]).all()  # a class without samples has no shares
        assert [t.get_text() for t in panels[head].get_yticklabels()] == list(names)
        written = {
            (round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in panels[head].texts
        }
        assert written == {
            (i, j): f"{100 * shares[i, j]:.0f}" for i, j in np.argwhere(np.nan_to_num(shares) >= 0.005)
        }
    assert png_bytes(figure).startswith(b"\x89PNG")
    assert "n = 400" in figure.get_suptitle()


def test_reliability_bars_are_the_bins():
    e = judgement(n=400).evaluation
    figure = plots.reliability_figure(e)
    bins = e.heads["fused"].reliability
    upper = figure.axes[0]
    heights = {round(bar.get_x() * 15): bar.get_height() for bars in upper.containers for bar in bars}
    assert heights == {i: a for i, a in enumerate(bins.accuracy) if a is not None}
    assert f"ECE {bins.ece:.1%}" in upper.get_title("left")
    lower = figure.axes[1]
    assert [bar.get_height() for bar in lower.containers[0]] == pytest.approx([n / 400 for n in bins.counts])
    assert png_bytes(figure)


def test_robustness_has_a_curve_a_head_or_a_contender():
    alone = plots.robustness_figure([Contender("$one", (judgement(),))])
    assert [line.get_label() for line in alone.axes[0].lines] == [*HEADS, "chance"]
    (fused, *_) = alone.axes[0].lines
    measured = judgement().robustness
    assert fused.get_ydata() == pytest.approx([m.accuracy["fused"] for m in measured[:6]])
    assert [t.get_text() for t in alone.axes[0].get_xticklabels()] == ["clean", "20", "10", "5", "0", "-5"]
    many = [Contender(f"run {i}", (judgement(i), judgement(i + 20))) for i in range(12)]
    figure = plots.robustness_figure(many)
    assert len(figure.axes[0].lines) == 8 + 1
    assert "the first 8; 4 more are in the table" in figure.get_suptitle()
    assert png_bytes(figure) and png_bytes(alone)


def test_bars_of_a_missing_modality_have_their_intervals():
    """The error bar of one model is its interval; for several seeds it is one sd to each side."""
    one, two = judgement(), judgement(20)
    measured = [m for m in one.robustness if m.condition.fill]
    others = [m for m in two.robustness if m.condition.fill]
    alone = plots.robustness_figure([Contender("one", (one,))]).axes[-1]
    seeds = plots.robustness_figure([Contender("seeds", (one, two)), Contender("b", (two, one))]).axes[-1]
    for axes, expected in (
        (alone, [m.interval["fused"].to_list() for m in measured]),
        (
            seeds,
            [
                (np.mean(pair) - np.std(pair, ddof=1), np.mean(pair) + np.std(pair, ddof=1))
                for pair in (
                    (m.accuracy["fused"], o.accuracy["fused"]) for m, o in zip(measured, others, strict=True)
                )
            ],
        ),
    ):
        bars = next(c for c in axes.containers if isinstance(c, BarContainer))
        (lines,) = bars.errorbar.lines[2]
        drawn = [segment[:, 1] for segment in lines.get_segments()]
        np.testing.assert_allclose(drawn, expected, atol=1e-9)


def test_a_single_head_is_drawn_too():
    e = judgement(heads=("audio",))
    for figure in (
        plots.confusion_figure(e.evaluation),
        plots.reliability_figure(e.evaluation),
        plots.robustness_figure([Contender("x", (e,))]),
    ):
        assert png_bytes(figure)
