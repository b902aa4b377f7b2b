"""The diagnosis of each modality: late, memorised, uninformative or balanced."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType

from mgap_cli.analysis.causes import Level, ModalityCause
from mgap_cli.report.layout import add_numbers, confidence_level, new_table, percent, printable, titled


def causes_table(causes: Sequence[ModalityCause], confidence: float) -> RenderableType:
    """Each modality's mean p of the true class on training and held-out samples, and one sentence."""
    table = new_table()
    for heading in ("modality", "samples"):
        table.add_column(heading, no_wrap=True)
    add_numbers(table, "n", "mean p", "interval", "accuracy %")
    for modality in causes:
        rows = [("train", modality.training), ("cross-fitted", modality.cross_fitted)]
        if modality.validation:
            rows.append(("validation", modality.validation))
        for i, (where, level) in enumerate(rows):
            table.add_row("" if i else printable(modality.modality), where, *_cells(level))
    notes = [printable(modality.sentence) for modality in causes]
    if not causes[0].validation:
        notes.append("There is no validation split, so memorising by the encoders is not detected.")
    notes.append(
        "cross-fitted: linear heads on features of an encoder that has seen the samples. "
        f"{confidence_level(confidence)} intervals."
    )
    return titled("Why a modality lags: training against held-out samples", table, *notes)


def _cells(level: Level) -> tuple[str, str, str, str]:
    interval = "-" if level.interval is None else f"{level.interval.low:.3f}-{level.interval.high:.3f}"
    return str(level.n), f"{level.mean:.3f}", interval, percent(level.accuracy)
