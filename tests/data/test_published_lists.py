"""Complete data sets with their real lists: `mgap prepare` reads small media files with the real names.

All names are hard links to a few different clips.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from helpers.media import write_media, write_wav
from helpers.program import mgap, sets

from mgap_cli.data.store import Store, open_store, verify

FAST = sets(
    *("data.frames=1", "data.frame_size=8", "data.sample_rate=8000", "data.seconds=0.2"),
    *("data.n_fft=64", "data.hop=40"),
)


def link_all(paths: Iterable[Path], media: list[Path]) -> None:
    """Make every path a link to one of the files, which repeat in order."""
    for i, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(media[i % len(media)], path)


def clips(folder: Path, suffix: str, **options) -> list[Path]:
    """Write three clips of different pitch."""
    return [
        write_media(folder / f"{i}{suffix}", seconds=0.3, hertz=300 * (i + 1), **options) for i in range(3)
    ]


def prepared(out: Path, *line: object) -> tuple[Store, str]:
    done = mgap("prepare", *line, "-o", out, *FAST)
    assert done.code == 0, done.err
    store = open_store(out)
    assert verify(store) and not store.meta["skipped"]
    return store, done.err


def groups(store: Store, split: str) -> set[str]:
    return {store.columns["group"][i] for i in store.indices(split)}


def copied(source: Path, names: Iterable[str], target: Path) -> None:
    for name in names:
        shutil.copyfile(source / name, target / name)  # the permissions of the shared folder are not copied


# --- CREMA-D


@pytest.fixture(scope="module")
def cremad(shared_data, tmp_path_factory) -> Path:
    """All 14,884 real paths: 7,442 FLV files (Sorenson video and MP3) and as many WAV files at 16 kHz."""
    root, sources = tmp_path_factory.mktemp("cremad"), tmp_path_factory.mktemp("kinds")
    names = (shared_data / "cremad" / "files.txt").read_text().split()
    assert len(names) == 14_884
    flv, wav = clips(sources, ".flv", video_codec="flv"), [sources / f"{i}.wav" for i in range(3)]
    for i, path in enumerate(wav):
        write_wav(path, seconds=0.3, rate=16_000, hertz=300 * (i + 1))
    link_all((root / name for name in names if name.endswith(".flv")), flv)
    link_all((root / name for name in names if name.endswith(".wav")), wav)
    return root


@pytest.mark.slow
def test_all_of_cremad_with_the_literatures_split(cremad, shared_data, tmp_path):
    lists = [shared_data / "cremad" / name for name in ("train.csv", "test.csv")]
    line = ["cremad", cremad, "--split", lists[0], "--split", lists[1]]
    store, told = prepared(tmp_path / "s", *line, "--set", "data.val_share=0")
    assert store.meta["counts"] == {"train": 6698, "test": 744} and len(store) == 7442
    assert store.classes == ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
    assert Counter(store.columns["label"])["NEU"] == 1087
    assert len(groups(store, "train")) == 91 and "91 speakers are in both train and test" in told
    assert all(i.split("_")[0] == g for i, g in zip(store.ids, store.columns["group"], strict=True))
    # Each clip has the sound of its own file: in the order of names, the pitches repeat in order.
    names = (shared_data / "cremad" / "files.txt").read_text().split()
    order = [Path(name).stem for name in names if name.endswith(".wav")]
    pitch = store.audio[:, :, 5].astype(np.float32).argmax(axis=1) * 8000 / 64
    expected = {name: 300 * (i % 3 + 1) for i, name in enumerate(order)}
    np.testing.assert_allclose(pitch, [expected[i] for i in store.ids], atol=80)


@pytest.mark.slow
def test_all_of_cremad_by_speaker(cremad, tmp_path):
    store, told = prepared(tmp_path / "s", "cremad", cremad, "--split", "speaker")
    train, val, test = (groups(store, split) for split in ("train", "val", "test"))
    assert not train & test and not train & val and not val & test and "speakers" not in told
    assert (len(train), len(val), len(test)) == (74, 8, 9)


# --- AVE


@pytest.fixture(scope="module")
def ave(shared_data, tmp_path_factory) -> Path:
    """The 4,097 real video ids as MP4 with H.264 and AAC, beside the four lists."""
    root = tmp_path_factory.mktemp("AVE_Dataset")
    names = ("Annotations.txt", "trainSet.txt", "valSet.txt", "testSet.txt")
    copied(shared_data / "ave", names, root)
    lines = (root / "Annotations.txt").read_text(encoding="utf-8").splitlines()
    (root / "Annotations.txt").write_text("Category&VideoID&Quality&StartTime&EndTime\n" + "\n".join(lines))
    ids = sorted({line.split("&")[1] for line in lines})
    link_all((root / "AVE" / f"{i}.mp4" for i in ids), clips(tmp_path_factory.mktemp("kinds"), ".mp4"))
    return root


@pytest.mark.slow
def test_all_of_ave_without_its_leaks_and_with_them(ave, tmp_path):
    store, told = prepared(tmp_path / "s", "ave", ave)
    assert "8 videos are in both train and test: dropped from train" in told
    assert "10 videos are in both train and val: dropped from train" in told
    # 18 videos, one of which has two rows in the training list.
    assert store.meta["counts"] == {"train": 3339 - 19, "val": 402, "test": 402}
    assert len(store.classes) == 28 and "Male speech, man speaking" in store.classes
    assert not groups(store, "train") & (groups(store, "val") | groups(store, "test"))
    assert sum(i.startswith("-") for i in store.ids) > 1000
    kept, told = prepared(tmp_path / "kept", "ave", ave, "--keep-leaks")
    assert kept.meta["counts"] == {"train": 3339, "val": 402, "test": 402}
    assert kept.meta["source"]["options"]["keep_leaks"] is True and "kept (--keep-leaks)" in told
    assert len(groups(kept, "train") & groups(kept, "test")) == 8
    assert len(groups(kept, "train") & groups(kept, "val")) == 10
    mgap("prepare", "ave", ave, "-o", tmp_path / "kept", *FAST).fails(3, "--keep-leaks")


# --- Kinetics-Sounds


@pytest.fixture(scope="module")
def kinetics(shared_data, tmp_path_factory) -> tuple[Path, int]:
    """The real lists, and two thirds of their 17,396 clips in {train,test}/<class>/, with their number."""
    root = tmp_path_factory.mktemp("kinetics")
    source = shared_data / "kinetics_sounds"
    copied(source, ("my_train.txt", "my_test.txt"), root)
    classes = (source / "classes.txt").read_text().split()
    paths = []
    for split in ("train", "test"):
        rows = [line.rsplit(",", 2) for line in (root / f"my_{split}.txt").read_text().splitlines()]
        paths += [root / split / classes[int(label)] / f"{name}.mp4" for name, _, label in rows]
    there = [path for i, path in enumerate(dict.fromkeys(paths)) if i % 3]
    link_all(there, clips(tmp_path_factory.mktemp("kinds"), ".mp4"))
    return root, len(there)


@pytest.mark.slow
def test_all_of_kinetics_sounds_with_a_third_missing(kinetics, tmp_path):
    root, there = kinetics
    store, told = prepared(tmp_path / "s", "kinetics-sounds", root, "--set", "data.val_share=0")
    assert len(store) == there and len(store.classes) == 31
    assert "of 17396 listed clips are not on disk: blowing_nose" in told
    assert any("tickling" in note for note in store.meta["notes"])
    assert all(
        path.split("/")[1] == label
        for path, label in zip(store.columns["video"], store.columns["label"], strict=True)
    )


def test_missing_kinetics_clips_do_not_count_as_unreadable(shared_data, tmp_path):
    root = tmp_path / "ks"
    root.mkdir()
    source = shared_data / "kinetics_sounds"
    copied(source, ("my_train.txt", "my_test.txt"), root)
    names = [(root / f"my_{split}.txt").read_text().split(",")[0] for split in ("train", "test")]
    link_all((root / f"{name}.mp4" for name in names), clips(tmp_path / "kinds", ".mp4"))
    store, told = prepared(tmp_path / "s", "kinetics-sounds", root, "--set", "data.val_share=0")
    assert store.ids == names and "17394 of 17396 listed clips are not on disk: blowing_nose" in told
    line = ["prepare", "kinetics-sounds", root, "-o", tmp_path / "strict", "--strict", *FAST]
    mgap(*line).fails(3, "17394 of 17396 listed clips are not on disk")
    assert not (tmp_path / "strict").exists()


# --- real clips, none of which may be lost


def test_the_real_clips_are_all_read(shared_data, tmp_path):
    paths = sorted((shared_data / "real_clips").iterdir())
    assert len(paths) == 17
    for path in paths:
        shutil.copyfile(path, tmp_path / path.name)
    rows = [f"{path.stem},{path.name},train,{path.suffix[1:]}" for path in paths]
    (tmp_path / "m.csv").write_text("\n".join(["id,path,split,container", *rows, ""]))
    store, _ = prepared(tmp_path / "s", "manifest", tmp_path / "m.csv", "--set", "data.val_share=0")
    assert len(store) == 17 and store.frames.std(axis=(1, 2, 3, 4)).min() > 5
    durations = [float(text) for text in store.columns["duration"]]
    assert all(2.5 < seconds < 10.5 for seconds in durations)


@pytest.mark.slow
def test_the_grid_clips_are_all_read(shared_data, tmp_path):
    line = ["manifest", shared_data / "grid" / "manifest.csv", "--label", "digit"]
    store, _ = prepared(tmp_path / "s", *line)
    assert store.meta["counts"] == {"train": 700, "val": 100, "test": 200}
