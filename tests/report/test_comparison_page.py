"""The table and the page of a comparison."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mgap_cli.comparison.cell_result import CellResult
from mgap_cli.comparison.plan import Cell
from mgap_cli.comparison.statistics import GAP_METRIC, ComparisonTable, compare_methods
from mgap_cli.report import comparison_table as tables
from mgap_cli.report.figures.comparison import groups_of_equals
from mgap_cli.report.page.comparison_page import comparison_page

METHODS = {"joint": 0.55, "joint-heads": 0.6, "my_method<b>": 0.7}


@pytest.fixture(scope="module")
def results() -> dict[Cell, CellResult | None]:
    """Three stores, three methods, eight seeds; one cell failed and one is missing."""
    draw = np.random.default_rng(0)
    recorded: dict[Cell, CellResult | None] = {}
    for store in ("a", "b", "c"):
        for method, mean in METHODS.items():
            for seed in range(8):
                cell = Cell(store, method, seed)
                value = float(mean + draw.normal() / 100)
                figures = {"fused.accuracy": value, "audio.accuracy": value - 0.1, GAP_METRIC: 0.2}
                recorded[cell] = CellResult(cell, "done", 3.0, "cpu", 2, {"test": figures, "val": figures})
    recorded[Cell("a", "joint", 7)] = None
    failed = Cell("a", "joint", 6)
    recorded[failed] = CellResult(failed, "failed", error="killed by SIGKILL <i>")
    return recorded


def table_of(results: dict[Cell, CellResult | None], metric: str = "fused.accuracy") -> ComparisonTable:
    return compare_methods([r for r in results.values() if r], metric, "joint-heads", "joint")


def test_bold_marks_a_difference_that_the_corrected_test_finds(results):
    text = tables.markdown(table_of(results))
    assert text.count("| **my\\_method<b>** |") == 6, "in the two tables of each store"
    assert "**joint-heads**" not in text


def test_a_method_with_fewer_seeds_says_so(results):
    assert tables.markdown(table_of(results)).count("joint (6 of 8)") == 1


def test_latex_has_no_character_that_it_would_not_print(results):
    text = tables.latex(table_of(results))
    assert text.count("\\begin{tabular}") == text.count("\\end{tabular}") == 7
    assert "my\\_method" in text and "mean $\\pm$ sd \\%" in text
    body = re.sub(r"\\[%_&$#{}]", "", text.split("\n", 1)[1])
    assert "%" not in body and "_" not in body and "±" not in body


def test_csv_has_the_values_themselves(results):
    lines = tables.csv_text(table_of(results)).splitlines()
    values = [r for r in results.values() if r and r.state == "done"]
    assert len(lines) == 1 + len(values)
    assert sorted(float(line.rsplit(",", 1)[1]) for line in lines[1:]) == sorted(
        r.figures["test"]["fused.accuracy"] for r in values
    )


def test_the_page_has_everything_and_asks_for_nothing(results, tmp_path):
    settings = {
        f"{s}/{m}": {"train.lr": 0.1 if s == "a" else 0.2, "train.epochs": 3} for s in "abc" for m in METHODS
    }
    html = comparison_page(table_of(results), table_of(results, GAP_METRIC), results, settings, tmp_path)
    assert html.count("<img ") == 3 * 4 + 1
    assert "my_method&lt;b&gt;" in html and "<b>" not in html and "<i>" not in html
    assert "killed by SIGKILL" in html and "train.lr" in html and "train.epochs" not in html
    links = re.findall(r'href="(cells/[^"]+)"', html)
    assert len(links) == len(results) and "cells/a/joint/seed0" in links
    assert not re.search(r'(?:src|href)="(?:https?:)?//', html)


@pytest.mark.parametrize(
    ("ranks", "critical", "groups"),
    [
        ([1.0, 1.5, 4.0], 1.0, [(0, 1)]),
        ([1.0, 2.0, 3.0], 1.5, [(0, 1), (1, 2)]),
        ([1.0, 1.2, 1.4], 1.0, [(0, 2)]),
        ([1.0, 3.0], 1.0, []),
    ],
)
def test_a_bar_joins_methods_that_cannot_be_told_apart(ranks, critical, groups):
    assert groups_of_equals(ranks, critical) == groups
