"""`prepare` replaces only its own files: never its input, and nothing in another folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.media import write_media
from helpers.program import listing, mgap, sets

FAST = sets(
    *("data.frames=1", "data.frame_size=8", "data.sample_rate=8000", "data.seconds=0.2"),
    *("data.n_fft=64", "data.hop=40", "data.val_share=0"),
)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A folder with a clip and a manifest named clips.csv, as in the README."""
    folder = tmp_path_factory.mktemp("source")
    write_media(folder / "a.mp4", seconds=0.3)
    (folder / "clips.csv").write_text("id,path,split,word\na,a.mp4,train,yes\nb,a.mp4,train,no\n")
    return folder


@pytest.fixture
def mine(source, tmp_path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "mine"))


def line(folder: Path, out: object, *words: object) -> list[object]:
    return ["prepare", "manifest", folder / "clips.csv", "-o", out, "--workers", 1, *FAST, *words]


@pytest.mark.parametrize("words", [[], ["--force"]], ids=["", "force"])
def test_the_folder_of_the_manifest_is_refused(mine, words):
    before = listing(mine)
    mgap(*line(mine, ".", *words), cwd=mine).fails(2, "clips.csv", "replace this input", "-o")
    mgap("prepare", "digits", "-o", mine, *words).fails(2, str(mine), "not a store of mgap", "-o")
    assert listing(mine) == before


@pytest.mark.parametrize(
    "name",
    ["frames.npy", "audio.npy", "skipped.csv", "clips.csv", "store.json", ".partial", ".lock", "x.txt"],
)
def test_a_foreign_folder_is_left_as_it_is(source, tmp_path, name):
    out = tmp_path / "out"
    out.mkdir()
    if name == ".partial":
        (out / name).mkdir()
        (out / name / "thesis.tex").write_text("years of work")
    else:
        (out / name).write_text('{"schema": "mine"}')
    before = listing(out)
    for words in ([], ["--force"]):
        mgap(*line(source, out, *words)).fails(2, str(out), name, "-o")
        assert listing(out) == before


def test_a_manifest_inside_a_store_of_ours_is_not_replaced(source, tmp_path):
    """The folder is a store of mgap, but the input in it is the user's, even with mgap's file name."""
    out = tmp_path / "s"
    assert mgap(*line(source, out)).code == 0
    (out / "a.mp4").write_bytes((source / "a.mp4").read_bytes())
    shutil.copy(source / "clips.csv", out / "clips.csv")
    before = listing(out)
    mgap(*line(out, out, "--force")).fails(2, "clips.csv", "replace this input")
    (tmp_path / "link.csv").symlink_to(out / "clips.csv")
    (tmp_path / "a.mp4").symlink_to(source / "a.mp4")
    assert listing(out) == before


def test_a_new_an_empty_and_an_own_folder_are_taken(source, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "linked")
    (tmp_path / "linked").mkdir()
    for name in ("new/below", "empty", "link"):
        out = tmp_path / name
        assert mgap(*line(source, out)).code == 0
        (out / "notes.txt").write_text("mine")  # other files beside those of the store are kept
        done = mgap(*line(source, out, "--force", *sets("data.frames=2")))
        assert done.code == 0 and (out / "notes.txt").read_text() == "mine", done.err
    assert (tmp_path / "link").is_symlink()


def test_after_a_refusal_the_same_folder_is_taken(mine, tmp_path):
    """After a build that ended before its store existed, the folder still counts as mgap's."""
    whole = (mine / "a.mp4").read_bytes()
    (mine / "a.mp4").write_bytes(b"")
    out = tmp_path / "s"
    mgap(*line(mine, out)).fails(3, "2 of 2 clips", "skipped.csv")
    assert (out / "skipped.csv").exists()
    (mine / "a.mp4").write_bytes(whole)
    assert mgap(*line(mine, out)).code == 0
    assert not (out / "skipped.csv").exists()


@pytest.mark.parametrize("file_type", ["file", "pipe", "device"])
def test_an_output_that_is_not_a_folder_is_refused(source, tmp_path, file_type):
    import os

    out = Path("/dev/null") if file_type == "device" else tmp_path / "out"
    if file_type == "file":
        out.write_text("mine")
    elif file_type == "pipe":
        os.mkfifo(out)
    mgap(*line(source, out)).fails(2, "is not a folder", "-o")
    assert out.exists() and not out.is_dir()
