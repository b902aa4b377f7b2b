"""Every table: within its width, with complete and right numbers, and with markup shown as text."""

from __future__ import annotations

import re

import numpy as np
import pytest
from helpers.screen import numbers, printed
from rich.cells import cell_len
from rich.console import RenderableType

from mgap_cli.gap.mixture import GapFit
from mgap_cli.report.tables import gap as tables


def all_tables(fit: GapFit, other: GapFit) -> list[RenderableType]:
    return [
        *(t(f, "train") for f in (fit, other) for t in (
            tables.component_table, tables.diagnostics_table,
        )),
        *(tables.lead_table(f, 0.95, "train") for f in (fit, other)),
        *(tables.posterior_table(f, 8, "val") for f in (fit, other)),
        tables.split_table([("train", fit), ("val", other), ("test", fit)]),
    ]  # fmt: skip


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_layout(fit: GapFit, signed_fit: GapFit, width: int, encoding: str):
    for table in all_tables(fit, signed_fit):
        wide, text = printed(table, 1000), printed(table, width, encoding)
        assert max(map(cell_len, text.splitlines())) <= width, text
        assert numbers(text) >= numbers(wide), text  # the same text is printed with a limit


def test_names_are_never_markup(fit: GapFit):
    assert "[bold]/a/long" in printed(tables.posterior_table(fit), 200)


def test_cropped_ids_keep_their_ends(fit: GapFit):
    first = max(range(300), key=lambda i: (fit.posterior[i], abs(fit.scores.gap[i])))
    row = printed(tables.posterior_table(fit, 1)).splitlines()[4]
    start, end = row.split()[0].split("…")
    assert len(start) >= 3 and fit.scores.ids[first].startswith(start)
    assert len(end) >= 3 and fit.scores.ids[first].endswith(end)


def test_components_add_up(fit: GapFit):
    rows = [line.split() for line in printed(tables.component_table(fit, "train")).splitlines()]
    assert rows[0][-3:] == ["n", "=", "300"]
    body = {row[0]: row[1:] for row in rows if row and row[0] in ("balanced", "imbalanced")}
    assert sum(int(row[4]) for row in body.values()) == 300
    for k, role in enumerate(("balanced", "imbalanced")):
        share = 100 * np.mean(fit.component == k)
        expected = [str(k), f"{100 * fit.mixture.weights[k]:.1f}", f"{fit.mixture.means[k]:.3f}"]
        assert body[role][:3] == expected
        assert body[role][5] == f"{share:.1f}"


def test_diagnostics_mark_the_smallest_bic(fit: GapFit):
    text = printed(tables.diagnostics_table(fit))
    best = min(fit.bic, key=lambda k: fit.bic[k])
    (line,) = [x for x in text.splitlines()[4:] if "BIC best" in x]
    assert line.split()[:3] == [str(best), f"{fit.bic[best]:.1f}", "0.0"]
    complete = min(fit.icl, key=lambda k: fit.icl[k])
    (line,) = [x for x in text.splitlines()[4:] if "ICL best" in x]
    assert [line.split()[i] for i in (0, 3, 4)] == [str(complete), f"{fit.icl[complete]:.1f}", "0.0"]
    assert f"|gap| = {fit.crossing:.3f}" in text


def test_leads_by_hand(fit: GapFit):
    gap = fit.scores.p["audio"] - fit.scores.p["visual"]
    leads = printed(tables.lead_table(fit, 0.95))
    assert re.search(rf"audio leads +{(gap > 0).sum()} ", leads)
    assert "equal" not in leads


def test_samples_come_most_imbalanced_first(fit: GapFit):
    lines = printed(tables.posterior_table(fit, 300), 200).splitlines()
    posteriors = [float(m[1]) for line in lines if (m := re.search(r"[+-]\d\.\d{3} +(\d\.\d{3}) ", line))]
    assert len(posteriors) == 300
    assert posteriors == sorted(posteriors, reverse=True)
    assert posteriors[0] == round(fit.posterior.max(), 3)
    assert len(printed(tables.posterior_table(fit, 5), 200).splitlines()) == len(lines) - 295


def test_splits_are_shown_side_by_side(fit: GapFit, signed_fit: GapFit):
    text = printed(tables.split_table([("train", fit), ("val", signed_fit)]))
    (line,) = [line for line in text.splitlines() if line.startswith("balanced %")]
    assert line.split()[2:] == [f"{100 * f.balanced_share:.1f}" for f in (fit, signed_fit)]


def test_degenerate_fits_have_tables(constant_fit: GapFit):
    assert "every sample counts as balanced" in printed(tables.diagnostics_table(constant_fit), 120)
    assert re.search(r"equal +20 ", printed(tables.lead_table(constant_fit, 0.95)))
    assert "nan" not in printed(tables.split_table([("train", constant_fit)]))
    assert "0.000" in printed(tables.posterior_table(constant_fit))
