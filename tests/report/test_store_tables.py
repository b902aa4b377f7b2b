"""The tables of a store: within their width, with readable names and the right numbers."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import pytest
from helpers.screen import numbers, printed
from helpers.stores import LISTS, ave_store, made, many
from rich.cells import cell_len
from rich.console import RenderableType

from mgap_cli.data.store import open_store
from mgap_cli.data.summary import Summary, summarise
from mgap_cli.report.tables import store as tables


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    return summarise(open_store(ave_store(tmp_path_factory.mktemp("leaky"), keep_leaks=True)))


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 clips of 60 classes and 91 groups, as many as CREMA-D has actors."""
    return made(many(300, 60, 91), tmp_path_factory.mktemp("crowd") / "s")


def all_tables(summary: Summary) -> list[RenderableType]:
    return [
        tables.overview_table(summary, verified=False),
        tables.split_table(summary),
        tables.class_table(summary),
        tables.group_table(summary),
        tables.leak_table(summary),
        tables.skip_table(summary),
    ]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("name", ["leaky", "crowd"])
def test_layout(name: str, width: int, encoding: str, request: pytest.FixtureRequest):
    store_summary = request.getfixturevalue(name)
    summary = summarise(open_store(store_summary)) if name == "crowd" else store_summary
    for table in all_tables(summary):
        wide, text = printed(table, 1000), printed(table, width, encoding)
        assert max(map(cell_len, text.splitlines())) <= width, text
        assert numbers(text) >= numbers(wide), text  # the same text is printed with a limit


def test_names_are_never_markup(leaky: Summary):
    assert "[red]$x$[/red]" in printed(tables.class_table(leaky))
    assert "[bold]cut short[/bold]" in printed(tables.skip_table(leaky))


def rows_of(text: str) -> dict[str, list[str]]:
    """Return {first word: the row's numbers} of a table."""
    cells = (line.split() for line in text.splitlines() if line.strip())
    return {row[0]: [c for c in row[1:] if re.fullmatch(r"[\d.]+|-", c)] for row in cells}


def test_leaks_by_pair_of_splits(leaky: Summary):
    text = printed(tables.leak_table(leaky))
    rows = rows_of(text)
    assert rows["groups"] == rows["files"] == ["1", "2", "0", "3", "6"]
    assert rows["ids"] == ["0"] * 5
    assert "groups: a (train 1, test 1); b (train 1, test 1); c (train 1, val 1)" in text
    assert "kept in train (--keep-leaks)" in text
    assert "prepare said: 2 videos are in both train and test: kept" in text


def test_no_leaks_say_so(crowd: Path, tmp_path: Path):
    assert "Leakage between splits: none" in printed(tables.leak_table(summarise(open_store(crowd))))
    dropped = summarise(open_store(ave_store(tmp_path, keep_leaks=False)))
    assert "dropped from train (no --keep-leaks)" in printed(tables.leak_table(dropped))


def test_splits_add_up(leaky: Summary):
    rows = rows_of(printed(tables.split_table(leaky)))
    assert [int(rows[split][0]) for split in LISTS] == [15, 3, 3]  # one of each is unreadable
    assert [int(rows[split][2]) for split in LISTS] == [1, 1, 1]
    assert rows["all"][:5] == ["21", "100.0", "3", "3", str(len(leaky.groups))]
    assert rows["test"][5:8] == ["0.30", "0.30", "0.70"]  # b, s and a; a is the longest


def test_many_groups_are_their_largest_and_smallest(crowd: Path):
    summary = summarise(open_store(crowd))
    with (crowd / "clips.csv").open() as file:
        sizes = Counter(row["group"] for row in csv.DictReader(file))
    text = printed(tables.group_table(summary), 140)
    assert text.startswith(
        f"Clips by group, 91 groups of {min(sizes.values())} to {max(sizes.values())} clips"
    )
    lines = [line for line in text.splitlines() if line.startswith("speaker")]
    assert len(lines) == tables.GROUPS_LISTED
    assert [int(line.split()[-2]) for line in lines] == [4] * 4 + [3] * 4
    assert rows_of(text)["..."][-2] == str(300 - 28)
    assert rows_of(text)["all"][-2:] == ["300", "100.0"]


def test_skipped_clips_by_reason(leaky: Summary):
    text = printed(tables.skip_table(leaky))
    assert rows_of(text)["2"] == ["1", "1", "0"] and "no audio stream" in text
    assert rows_of(text)["1"] == ["0", "0", "1"] and "[bold]cut short[/bold]" in text


def test_nothing_skipped_and_no_groups_say_so(tmp_path: Path):
    dataset = many(8, 2, 4)
    for clip in dataset.clips:
        object.__setattr__(clip, "group", "")
    summary = summarise(open_store(made(dataset, tmp_path / "s")))
    assert "none" in printed(tables.skip_table(summary))
    assert "names no groups" in printed(tables.group_table(summary))
    assert "Without groups" in printed(tables.leak_table(summary))


def test_overview_has_the_protocol(leaky: Summary):
    text = " ".join(printed(tables.overview_table(leaky, verified=True)).split())
    assert "2 of 16 x 16 pixels" in text and "65 bins x 63 columns: 0.5 s at 8000 Hz" in text
    assert "keep leaks yes" in text and "verified yes" in text and leaky.fingerprint in text
