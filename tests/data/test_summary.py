"""The facts about a store, compared with counts from its files."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from helpers.stores import CLASSES, LISTS, UNREADABLE, ave_store, made, many, read

from mgap_cli.data.clips import Clip, Dataset
from mgap_cli.data.store import open_store
from mgap_cli.data.summary import Summary, summarise
from mgap_cli.data.verification import require_intact
from mgap_cli.errors import ExitCode, UnfitError


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ave_store(tmp_path_factory.mktemp("leaky"), keep_leaks=True)


def facts(store: Path) -> Summary:
    return summarise(open_store(store))


def clips(store: Path) -> list[dict[str, str]]:
    with (store / "clips.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_clip_is_counted_once(leaky):
    summary, rows = facts(leaky), clips(leaky)
    assert summary.splits == Counter(row["split"] for row in rows)
    assert list(summary.splits) == ["train", "val", "test"]
    assert tuple(summary.classes) == tuple(sorted(CLASSES))
    for label, counts in summary.classes.items():
        assert counts == Counter(row["split"] for row in rows if row["label"] == label)
    for group, counts in summary.groups.items():
        assert counts == Counter(row["split"] for row in rows if row["group"] == group)
    assert set(summary.groups) == {row["group"] for row in rows}


def test_leaks_are_those_of_the_lists(leaky):
    leaks = facts(leaky).leaks
    shared = defaultdict(Counter)
    for split, ids in LISTS.items():
        for name in ids.split():
            shared[name][split] += 1
    expected = {name: counts for name, counts in shared.items() if len(counts) > 1}
    assert leaks.groups == expected == {"a": {"train": 1, "test": 1}, "b": {"train": 1, "test": 1},
                                        "c": {"train": 1, "val": 1}}  # fmt: skip
    assert leaks.files == {f"{name}.mp4": counts for name, counts in expected.items()}
    assert leaks.ids == {}  # equal ids of AVE differ by their split
    assert facts(leaky).leaks_kept is True


def test_dropped_leaks_are_removed_but_recorded(tmp_path):
    summary = facts(ave_store(tmp_path, keep_leaks=False))
    assert summary.leaks.groups == summary.leaks.files == summary.leaks.ids == {}
    assert summary.leaks_kept is False
    assert any("2 videos are in both train and test: dropped" in note for note in summary.notes)


def test_ids_and_files_that_are_in_two_splits_without_groups(tmp_path):
    """The same id in two splits, a video of which two parts are used, and a sound that is used twice."""
    files = [
        ("same", "train", "v0.mp4", None),
        ("same", "test", "v1.mp4", None),
        ("first", "train", "long.mp4", "s.wav"),
        ("second", "test", "long.mp4", "long.mp4"),
        ("later", "val", "v2.mp4", "s.wav"),
        ("whole", "train", "v3.mp4", "v3.mp4"),
    ]
    rows = [Clip(i, "x", split, tmp_path / v, tmp_path / a if a else None) for i, split, v, a in files]
    summary = facts(made(Dataset("mine", rows, ("x",), root=tmp_path, reader=read), tmp_path / "s"))
    assert summary.leaks.ids == {"same": {"train": 1, "test": 1}}
    assert summary.leaks.files == {"long.mp4": {"train": 1, "test": 1}, "s.wav": {"train": 1, "val": 1}}
    assert summary.groups == summary.leaks.groups == {} and summary.leaks_kept is None


def test_a_class_without_clips_is_there(tmp_path):
    dataset = Dataset("mine", [Clip("b", "x", "train")], ("w", "x"), reader=read)
    assert facts(made(dataset, tmp_path / "s")).classes == {"w": {}, "x": {"train": 1}}


def test_skipped_clips_have_their_reasons(leaky):
    skipped = facts(leaky).skipped
    assert {skip.id: skip.reason for skip in skipped} == UNREADABLE
    assert {skip.id: skip.split for skip in skipped} == {"o": "train", "r": "val", "t": "test"}
    assert facts(leaky).to_dict()["skipped_by_reason"] == Counter(UNREADABLE.values())
    before = facts(leaky)
    (leaky / "skipped.csv").rename(leaky / "elsewhere")
    assert facts(leaky).skipped == skipped, "store.json remembers"
    (leaky / "elsewhere").rename(leaky / "skipped.csv")
    assert facts(leaky) == before


def test_durations_and_sizes(leaky):
    document = facts(leaky).to_dict()
    for split in LISTS:
        seconds = [0.7 if row["id"][0] in "aeiou" else 0.3 for row in clips(leaky) if row["split"] == split]
        expected = {"total": sum(seconds), "shortest": min(seconds), "longest": max(seconds)}
        durations = document["seconds"][split]
        assert {key: durations[key] for key in expected} == pytest.approx(expected)
        assert durations["median"] == np.median(seconds)
    assert document["bytes"] == {p.name: len(p.read_bytes()) for p in leaky.iterdir() if p.name != ".lock"}
    json.dumps(document, allow_nan=False)


@pytest.mark.parametrize("key", ["source", "version", "skipped", "notes"])
@pytest.mark.parametrize("value", ["gone", None, 3, [3], {"options": 3}])
def test_a_store_json_that_was_tampered_with_is_refused_or_read(tmp_path, key, value):
    store = made(many(8, 2, 4), tmp_path / "s")
    meta = json.loads((store / "store.json").read_text())
    meta = {k: v for k, v in meta.items() if k != key} if value == "gone" else {**meta, key: value}
    (store / "store.json").write_text(json.dumps(meta))
    try:
        json.dumps(facts(store).to_dict())
    except UnfitError as error:
        assert error.exit_code == ExitCode.UNFIT and str(store) in error.message and error.hint


class TestVerification:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Path:
        return made(many(40, 4, 8), tmp_path / "s")

    def defects(self, store: Path) -> str:
        with pytest.raises(UnfitError) as caught:
            require_intact(open_store(store))
        assert caught.value.exit_code == ExitCode.UNFIT and "mgap prepare" in caught.value.hint
        return caught.value.message

    def test_an_intact_store_passes_and_is_left_as_it_was(self, store):
        before = {path.name: path.read_bytes() for path in store.iterdir()}
        require_intact(open_store(store))
        assert {path.name: path.read_bytes() for path in store.iterdir()} == before

    @pytest.mark.parametrize("name", ["frames.npy", "audio.npy"])
    @pytest.mark.parametrize("position", [200, -1])
    def test_one_flipped_bit(self, store, name, position):
        content = bytearray((store / name).read_bytes())
        content[position] ^= 1
        (store / name).write_bytes(content)
        assert "fingerprint" in self.defects(store)

    def test_another_label(self, store):
        text = (store / "clips.csv").read_text()
        (store / "clips.csv").write_text(text.replace("column 0,", "column 1,", 1))
        assert "fingerprint" in self.defects(store)

    def test_audio_that_is_not_finite(self, store):
        audio = np.load(store / "audio.npy", mmap_mode="r+")
        audio[3, 1, 1], audio[5, 0, 0], audio[5, 2, 2] = np.nan, np.inf, -np.inf
        audio.flush()
        message = self.defects(store)
        assert (
            "2 clips have audio that is not finite, first 'b/a/long/folder/of/clips/[bold]00003'" in message
        )

    def test_splits_and_ids_that_contradict_store_json(self, store):
        path = store / "clips.csv"
        text = path.read_text()
        path.write_text(text.replace(",test,", ",train,", 1))
        assert "count the splits differently" in self.defects(store)
        path.write_text(text.replace(",test,", ",testing,", 1))
        assert "unknown splits ('testing')" in self.defects(store)
        path.write_text(text.replace("00001", "00000", 1))
        assert "1 ids are duplicated within a split" in self.defects(store)
