"""Damaged manifests and published lists: each is read, or refused with one short message."""

from __future__ import annotations

import csv
import os
from io import StringIO
from pathlib import Path

import pytest
from helpers.program import mgap
from hypothesis import given, settings
from hypothesis import strategies as st

from mgap_cli.config import DataConfig
from mgap_cli.data import tables
from mgap_cli.data.clips import MEDIA_COLUMNS, Dataset
from mgap_cli.data.sources import load_dataset
from mgap_cli.data.sources.manifest import KNOWN
from mgap_cli.data.tables import read_lines, read_table
from mgap_cli.errors import ExitCode, MgapError

CONFIG = DataConfig(val_share=0)
HEAD = "id,path,split,word\n"


def loaded(name: str, root: Path, **options) -> Dataset | None:
    """Return the data set; None if it is refused: exit code 2 or 3, and a message that says where."""
    try:
        return load_dataset(name, root, CONFIG, **options)
    except MgapError as error:
        assert error.exit_code in (ExitCode.USAGE, ExitCode.UNFIT)
        assert str(root) in error.message or "--split" in error.message
        assert len(error.message) < 2000
        return None


# --- files that are not lists


@pytest.mark.parametrize("file_type", ["pipe", "/dev/zero", "/dev/null", "folder", "missing", "loop"])
def test_a_manifest_that_is_not_a_regular_file_is_refused_at_once(tmp_path, file_type):
    path = tmp_path / "m.csv"
    if file_type == "pipe":
        os.mkfifo(path)
    elif file_type == "folder":
        path.mkdir()
    elif file_type == "loop":
        path.symlink_to(path)
    elif file_type != "missing":
        path.symlink_to(file_type)
    done = mgap("prepare", "manifest", path, "-o", tmp_path / "s")
    assert done.code in (2, 3)
    done.fails(done.code, str(path))
    assert not (tmp_path / "s").exists()


def test_a_list_that_is_a_pipe_is_refused(tmp_path):
    (tmp_path / "my_train.txt").write_text("abcdefghijk_000000_000010,10,11\n")
    os.mkfifo(tmp_path / "my_test.txt")
    mgap("prepare", "kinetics-sounds", tmp_path, "-o", tmp_path / "s").fails(2, "my_test.txt", "pipe")


def test_a_file_too_large_for_a_table_is_refused_unread(tmp_path):
    path = tmp_path / "m.csv"
    path.touch()
    os.truncate(path, tables.LARGEST + 1)  # the file uses no space on the disk
    mgap("prepare", "manifest", path, "-o", tmp_path / "s").fails(3, str(path), "larger than 1 GiB")


# --- columns


def test_label_and_source_label_are_both_kept(tmp_path):
    text = "id,path,split,word,label,source_label,video,source_source_label\n"
    (tmp_path / "m.csv").write_text(text + "a,a.mp4,train,yes,1,2,3,4\n")
    (clip,) = load_dataset("manifest", tmp_path / "m.csv", CONFIG, label="word").clips
    assert clip.label == "yes"
    kept = {"source_source_source_label": "1", "source_label": "2", "source_video": "3"}
    assert clip.extra == {**kept, "source_source_label": "4"}


names = st.sampled_from([*MEDIA_COLUMNS, *(f"source_{name}" for name in MEDIA_COLUMNS), "a", "b"])


@given(st.lists(names.filter(lambda name: name not in KNOWN), min_size=1, unique=True))
@settings(max_examples=60, deadline=None)
def test_no_column_of_a_manifest_is_lost(tmp_path_factory, columns):
    path = tmp_path_factory.mktemp("m") / "m.csv"
    values = [f"value {i}" for i in range(len(columns))]
    path.write_text(f"id,path,split,word,{','.join(columns)}\na,a.mp4,train,yes,{','.join(values)}\n")
    data = load_dataset("manifest", path, CONFIG, label="word")
    row = data.row(data.clips[0])
    assert row["label"] == "yes" and row["id"] == "a" and set(values) <= set(row.values())


def test_separators_of_unicode_do_not_end_a_line(tmp_path):
    """For str.splitlines, U+2028, U+0085 and the vertical tab end a line."""
    names = ["a\u2028b", "c\u0085d", "e\x0bf", "g\x1ch"]
    text = StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([["id", "path", "split", "word"]])
    csv.writer(text, lineterminator="\r\n").writerows([[n, "a.mp4", "train", "yes"] for n in names])
    path = tmp_path / "m.csv"
    path.write_bytes(text.getvalue().encode())
    assert [clip.id for clip in load_dataset("manifest", path, CONFIG).clips] == names
    path.write_bytes("\r\n".join(names).encode())
    assert read_lines(path) == [(i + 1, name) for i, name in enumerate(names)]


def test_a_quoted_field_may_have_lines(tmp_path):
    (tmp_path / "m.csv").write_bytes(b'id,note\na,"one\r\ntwo"\n')
    assert read_table(tmp_path / "m.csv")[1] == [(2, {"id": "a", "note": "one\r\ntwo"})]


# --- anything at all


cell = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["", "train", "nan", "-1", "1e999", "9" * 5000, "../x", "/dev/zero", "\x1b[31m", "\0"]),
)


@given(st.lists(st.tuples(cell, cell, cell, cell, cell, cell), min_size=1, max_size=4), st.booleans())
@settings(max_examples=120, deadline=None)
def test_no_cell_of_a_manifest_is_a_defect(tmp_path_factory, rows, valid):
    path = tmp_path_factory.mktemp("m") / "m.csv"
    text = StringIO()
    csv.writer(text).writerow(["id", "path", "split", "word", "start", "end"])
    if valid:
        rows = [(name, "a.mp4", "train", word, "", "") for name, _, _, word, _, _ in rows]
    csv.writer(text).writerows(rows)
    path.write_bytes(text.getvalue().encode("utf-8", "surrogatepass"))
    loaded("manifest", path, label="word")


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=200).map(lambda rest: HEAD.encode() + rest)))
@settings(max_examples=100, deadline=None)
def test_no_bytes_of_a_manifest_are_a_defect(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("m") / "m.csv"
    path.write_bytes(content)
    loaded("manifest", path)


PUBLISHED = {
    "ave": (("trainSet.txt", "valSet.txt", "testSet.txt"), "Bell&abc&good&0&10\n"),
    "kinetics-sounds": (("my_train.txt", "my_test.txt"), "abcdefghijk_000000_000010,10,11\n"),
    "cremad": (("train.csv",), "1001_DFA_ANG_XX,ANG\n"),
}
JUNK = ["&", ",", '"', "²", "١", "9" * 5000, "nan", "inf", "-1", "\0", "\x1b", "\u2028", "x" * 200_000]


@pytest.mark.parametrize("name", PUBLISHED)
@given(
    parts=st.lists(st.one_of(st.sampled_from([*JUNK, "Bell", "abc", "10", "ANG"]), st.text(max_size=5))),
    between=st.sampled_from(["&", ",", "\n", ""]),
    before=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_no_line_of_a_published_list_is_a_defect(tmp_path_factory, name, parts, between, before):
    folder = tmp_path_factory.mktemp(name)
    files, intact = PUBLISHED[name]
    text = between.join(parts)
    for file in files:
        (folder / file).write_bytes((intact * before + text).encode("utf-8", "surrogatepass"))
    loaded(name, folder, **({"split_files": [folder / "train.csv"]} if name == "cremad" else {}))


@pytest.mark.parametrize("label", ["²", "١", "31", "-1", "1.0", "9" * 5000])
def test_a_kinetics_label_that_is_not_the_number_of_a_class_is_refused(tmp_path, label):
    for file in ("my_train.txt", "my_test.txt"):
        (tmp_path / file).write_text(f"abcdefghijk_000000_000010,10,{label}\n", encoding="utf-8")
    mgap("prepare", "kinetics-sounds", tmp_path, "-o", tmp_path / "s").fails(3, "line 1", "0 to 30")


@pytest.mark.parametrize("time", ["nan", "inf", "-1", "1e999"])
def test_an_ave_event_at_no_time_is_refused(tmp_path, time):
    for file in ("trainSet.txt", "valSet.txt", "testSet.txt"):
        (tmp_path / file).write_text(f"Bell&abc&good&0&{time}\n")
    mgap("prepare", "ave", tmp_path, "-o", tmp_path / "s").fails(3, "line 1", "Category&VideoID")
