"""`mgap inspect` on intact and damaged stores, and the files that it must not change."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
from helpers.program import listing, mgap
from helpers.stores import ave_store
from matplotlib import image


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ave_store(tmp_path_factory.mktemp("leaky"), keep_leaks=True)


@pytest.fixture
def mine(store: Path, tmp_path: Path) -> Path:
    """A copy of a finished store, to be damaged."""
    return Path(shutil.copytree(store, tmp_path / "mine"))


def test_json_agrees_with_the_files(store):
    document = mgap("inspect", store, "--json").json()
    assert document["schema"] == "mgap.inspect/1" and document["path"] == str(store)
    with (store / "clips.csv").open() as file:
        rows = list(csv.DictReader(file))
    meta = json.loads((store / "store.json").read_text())
    assert document["splits"] == meta["counts"] == Counter(row["split"] for row in rows)
    assert {name: sum(counts.values()) for name, counts in document["classes"].items()} == Counter(
        row["label"] for row in rows
    )
    assert document["fingerprint"] == meta["fingerprint"]
    assert document["protocol_name"].startswith("digits, but with data.frames 1, data.frame_size 8")
    assert document["protocol"].items() >= meta["protocol"].items(), "and settings at their defaults"
    assert document["frames"][0] == document["audio"][0] == len(rows)
    assert document["leaks"] == {"ids": {}, "files": {}, "groups": {}} and document["skipped"] == []
    assert document["verified"] is document["plot"] is None


def test_leaks_and_skipped_clips_in_json(leaky):
    document = mgap("inspect", leaky, "--json").json()
    assert set(document["leaks"]["groups"]) == {"a", "b", "c"} and document["leaks_kept"] is True
    assert document["skipped_by_reason"] == {"no audio stream": 2, "[bold]cut short[/bold]": 1}


@pytest.mark.parametrize("columns", ["80", "120"])
def test_tables(leaky, columns):
    done = mgap("inspect", leaky, env={"COLUMNS": columns})
    assert done.code == 0 and done.err == ""
    for title in ("Store", "Clips by split", "Clips by class", "Clips by group", "Leakage", "Skipped"):
        assert title in done.out
    assert max(map(len, done.out.splitlines())) <= int(columns)
    assert "\x1b" not in done.out


def test_it_writes_nothing_without_an_option(mine, tmp_path):
    before = listing(tmp_path)
    for words in ([], ["--json"], ["--verify"]):
        assert mgap("inspect", mine, *words, cwd=tmp_path).code == 0
    assert listing(tmp_path) == before


def test_plot_is_written_to_the_given_path(store, tmp_path):
    sheet = tmp_path / "new" / "sheet.png"
    done = mgap("inspect", store, "-o", sheet, "--plot", "--json")
    assert done.json()["plot"] == str(sheet) and done.err == f"wrote {sheet}\n"
    assert image.imread(sheet).ndim == 3
    again = mgap("inspect", store, "--plot", "-o", sheet, "-q")
    assert again.code == 0 and again.err == ""
    first = sheet.read_bytes()
    copy = Path(shutil.copytree(store, tmp_path / "data" / store.name))
    for given, folder in ((copy, tmp_path), (f"data/{store.name}", tmp_path), (".", copy)):
        beside = mgap("inspect", given, "--plot", cwd=folder)
        assert beside.code == 0 and beside.err.endswith(f"data/{store.name}-clips.png\n")
        drawn = copy.parent / f"{store.name}-clips.png"
        assert drawn.read_bytes() == first, "the same each time"
        drawn.unlink()
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_a_picture_that_cannot_be_is_refused(store, tmp_path):
    mgap("inspect", store, "-o", store, "--plot").fails(2, ".png")
    mgap("inspect", store, "-o", tmp_path / "x.png").fails(2, "--plot")
    (tmp_path / "file").touch()
    mgap("inspect", store, "-o", tmp_path / "file" / "x.png", "--plot").fails(1, "cannot be written")


def test_verify_passes_an_intact_store(store, leaky):
    for whole in (store, leaky):
        done = mgap("inspect", whole, "--verify", "--json")
        assert done.code == 0 and done.json()["verified"] is True
    assert "every byte is as prepare wrote it" in mgap("inspect", leaky, "--verify").out


@pytest.mark.parametrize("name", ["frames.npy", "audio.npy", "clips.csv"])
def test_verify_finds_one_changed_byte(mine, name):
    content = bytearray((mine / name).read_bytes())
    content[-3] ^= 1
    (mine / name).write_bytes(content)
    assert mgap("inspect", mine).code == 0, "which no one sees without reading it all"
    mgap("inspect", mine, "--verify").fails(3, str(mine), "fingerprint", "mgap prepare")
    mgap("inspect", mine, "--verify", "--json", "--plot").fails(3, "fingerprint")


@pytest.mark.parametrize("name", ["frames.npy", "audio.npy", "clips.csv", "store.json"])
@pytest.mark.parametrize("words", [[], ["--verify", "--plot", "-o", "x.png", "--json"]], ids=["", "all"])
def test_truncated(mine, name, words):
    os.truncate(mine / name, (mine / name).stat().st_size // 2)
    before = listing(mine.parent)
    mgap("inspect", mine, *words, cwd=mine.parent).fails(3, str(mine), "mgap prepare")
    assert listing(mine.parent) == before


def test_without_skipped_csv_store_json_remembers(leaky, tmp_path):
    mine = Path(shutil.copytree(leaky, tmp_path / "mine"))
    (mine / "skipped.csv").unlink()
    done = mgap("inspect", mine, "--json", "--verify")
    assert done.code == 0 and len(done.json()["skipped"]) == 3 and "skipped.csv" not in done.json()["bytes"]


def test_a_path_that_is_not_a_store(store, tmp_path):
    mgap("inspect", tmp_path / "none").fails(3, "no such store", "mgap prepare")
    (tmp_path / "folder").mkdir()
    mgap("inspect", tmp_path / "folder", "--verify").fails(3, "no store.json", "mgap prepare")
    mgap("inspect", store / "clips.csv").fails(3, "not a store")
    unfinished = Path(shutil.copytree(store, tmp_path / "unfinished"))
    (unfinished / "store.json").unlink()
    (unfinished / ".partial").mkdir()
    mgap("inspect", unfinished, "--json").fails(3, "not a finished store", "again")
