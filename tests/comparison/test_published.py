"""The published accuracies: valid rows, possible values, and the reasons against a comparison."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from helpers.screen import printed

from mgap_cli.comparison import published
from mgap_cli.comparison.published import Published, every_published, published_on
from mgap_cli.data import sources
from mgap_cli.report.tables.published import published_table

SOURCES = Path(sources.__file__).parent


def test_every_row_is_of_a_data_set_that_mgap_prepares_and_has_a_source():
    rows = every_published()
    assert all((SOURCES / f"{row.dataset.replace('-', '_')}.py").is_file() for row in rows)
    assert len(set(rows)) == len(rows)


def test_a_value_is_a_count_of_its_samples():
    """80.65 % of 744 is 600 clips; a printed value that no count of n samples gives has a wrong n."""
    for row in every_published():
        if row.n is not None:
            digits = len(str(row.value).partition(".")[2])
            nearest = round(row.value * row.n / 100)
            step = 100 / row.n if row.chosen_on_test == "yes" else 0
            assert abs(100 * nearest / row.n - row.value) <= max(0.5 * 10**-digits + 1e-9, step), row


def test_the_rows_of_a_data_set_come_from_the_highest_on():
    rows = published_on("cremad")
    assert [row.value for row in rows] == sorted((row.value for row in rows), reverse=True)
    assert len(rows) > 8 and published_on("digits") == []


def test_what_can_be_compared():
    base = {
        "dataset": "cremad",
        "method": "m",
        "value": 70.0,
        "protocol": "p",
        "secondary": False,
        "source": "s",
    }
    fair = Published(n=744, chosen_on_test="no", **base)
    assert fair.obstacles(744) == []
    assert fair.obstacles(743) == ["it has 744 test samples, not 743"]
    unknown = Published(n=None, chosen_on_test="unknown", **base)
    assert unknown.obstacles(744) == [
        "its number of test samples is unknown",
        "how its epoch was chosen is unknown",
    ]
    (reconboost,) = (row for row in published_on("cremad") if row.method == "reconboost")
    assert "it has 704 test samples, not 744" in reconboost.obstacles(744)
    (ours, *_) = (row for row in published_on("cremad") if row.method == "ogm-ge" and row.n)
    assert ours.obstacles(744) == ["its epoch was chosen on the test set"]


@pytest.mark.parametrize(
    "change",
    [{"value": "high"}, {"value": 0.8065, "n": 0}, {"chosen_on_test": True}, {"source": ""}, {"more": 1}],
)
def test_an_invalid_row_is_named(change, tmp_path, monkeypatch):
    row = {"dataset": "cremad", "method": "m", "value": 70.0, "n": 744, "protocol": "p", "source": "s"}
    row |= {"chosen_on_test": "no", "secondary": False}
    path = tmp_path / "published.yaml"
    path.write_text(yaml.safe_dump([row, {**row, **change}]))
    monkeypatch.setattr(published, "FILE", path)
    with pytest.raises(ValueError, match="row 2"):
        every_published.__wrapped__()


def test_the_table_states_what_can_be_compared():
    assert published_table("digits", 539) is None
    table = published_table("ave", 402)
    assert table is not None
    text = " ".join(printed(table, 300).split())
    assert "adaptive 70.90 402 no: how its epoch was chosen is unknown arXiv 2510.21797v1" in text
