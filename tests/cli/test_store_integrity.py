"""Every command refuses a store that differs from what `prepare` wrote, with a message."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.program import CLIPS, TINY, mgap, sets
from hypothesis import given, settings
from hypothesis import strategies as st

from mgap_cli.data.store import SCHEMA, open_store
from mgap_cli.data.summary import summarise
from mgap_cli.data.verification import require_intact
from mgap_cli.errors import ExitCode, MgapError

# --- classes and protocol


@pytest.fixture
def mine(store: Path, tmp_path: Path) -> Path:
    """A copy of a finished store, to be changed."""
    return Path(shutil.copytree(store, tmp_path / "mine"))


def edit(store: Path, **changes: Any) -> dict[str, Any]:
    """Change fields of store.json, and return what they were."""
    file = store / "store.json"
    meta: dict[str, Any] = json.loads(file.read_text())
    file.write_text(json.dumps({**meta, **changes}))
    return meta


def test_reversed_classes_are_refused_by_every_command(mine, finished, tmp_path):
    classes = json.loads((mine / "store.json").read_text())["classes"]
    edit(mine, classes=classes[::-1])
    for line in (
        ["inspect", mine],
        ["inspect", mine, "--verify"],
        ["evaluate", finished / "warmup.pt", "--store", mine],
        ["warmup", mine, "-o", tmp_path / "run", *sets(*TINY)],
    ):
        mgap(*line).fails(3, str(mine), "classes")
    assert not (tmp_path / "run").exists()


def test_an_edited_protocol_is_refused(mine):
    protocol = json.loads((mine / "store.json").read_text())["protocol"]
    edit(mine, protocol={**protocol, "seed": 7})  # it changes no shape
    mgap("inspect", mine).fails(3, "protocol", "mgap prepare")


@pytest.mark.parametrize("how", ["order", "names"])
def test_a_checkpoint_with_other_classes_than_its_store_is_refused(run, how):
    path = run / "warmup.pt"
    content = torch.load(path, weights_only=True)
    classes = content["classes"]
    content["classes"] = classes[::-1] if how == "order" else [f"digit {name}" for name in classes]
    torch.save(content, path)
    for command in ("evaluate", "analyze-gap", "adapt"):
        mgap(command, path).fails(3, str(path), "class names")


def test_verify_names_the_file_that_changed(mine):
    content = bytearray((mine / "audio.npy").read_bytes())
    content[-1] ^= 1
    (mine / "audio.npy").write_bytes(content)
    mgap("inspect", mine, "--verify").fails(3, "audio.npy has changed")


def test_a_store_of_an_earlier_version_says_to_prepare_again(mine, finished, tmp_path):
    edit(mine, schema="mgap-store/1")
    for line in (
        ["inspect", mine],
        ["warmup", mine, "-o", tmp_path / "run", *sets(*TINY)],
        ["evaluate", finished / "warmup.pt", "--store", mine],
        ["prepare", "digits", "-o", mine, *sets("data.frames=1")],
    ):
        mgap(*line).fails(3, "another version of mgap", "mgap-store/1", SCHEMA, "mgap prepare", "--force")
    protocol = {**open_protocol(finished), "frame_size": 8}
    words = [f"data.{key}={value}" for key, value in protocol.items()]
    done = mgap("prepare", "digits", "-o", mine, "--force", *sets(*words))
    assert done.code == 0, done.err
    assert json.loads((mine / "store.json").read_text())["schema"] == SCHEMA


def open_protocol(run: Path) -> dict[str, Any]:
    """Return the protocol of the store that a run was trained on."""
    store = torch.load(run / "warmup.pt", weights_only=True)["store"]["path"]
    protocol: dict[str, Any] = json.loads((Path(store) / "store.json").read_text())["protocol"]
    return protocol


# --- damage


def header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    """Return a .npy header with any content."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    padded = text.ljust(118 - len(text) % 64 + len(text) // 64 * 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded.encode()


DAMAGED_ARRAYS: dict[str, bytes] = {
    "a huge shape": header((2**62, 2**62)),
    "a shape beyond any integer": header((10**300, 1)),
    "a negative shape": header((-1, 1)),
    "objects": header((CLIPS,), "|O"),
    "no dictionary": b"\x93NUMPY\x01\x00\x10\x00" + b"[" * 16,
    "deep nesting": b"\x93NUMPY\x01\x00\x20\x03" + b"(" * 800,
    "version 9": b"\x93NUMPY\x09\x00" + bytes(100),
    "an NPZ file": b"PK\x03\x04" + bytes(100),
    "a pickle": b"\x80\x04K\x01.",
    "nothing": b"",
}


@pytest.mark.parametrize("name", DAMAGED_ARRAYS)
def test_an_array_with_a_false_header_is_refused(mine, name):
    (mine / "frames.npy").write_bytes(DAMAGED_ARRAYS[name])
    with pytest.raises(MgapError) as caught:
        open_store(mine)
    assert caught.value.exit_code == ExitCode.UNFIT and str(mine) in caught.value.message
    assert len(caught.value.message.splitlines()) == 1


@pytest.mark.parametrize("change", [-1, 1])
def test_an_array_that_is_too_short_or_too_long_is_refused(mine, change):
    file = mine / "audio.npy"
    os.truncate(file, file.stat().st_size + change)
    mgap("inspect", mine).fails(3, "audio.npy has", "bytes, expected")


@pytest.mark.parametrize("name", ["frames.npy", "clips.csv", "store.json"])
@pytest.mark.parametrize("file_type", ["pipe", "/dev/zero", "folder"])
def test_a_part_that_is_not_a_file_is_refused_at_once(mine, name, file_type):
    file = mine / name
    file.unlink()
    if file_type == "pipe":
        os.mkfifo(file)
    elif file_type == "folder":
        file.mkdir()
    else:
        file.symlink_to(file_type)
    mgap("inspect", mine).fails(3, str(mine))


WRONG = [None, True, 7, -1.5, 10**40, "text", "", [], [7], ["a", "a"], [[]], {}, {"a": 1}, {"a": {"b": []}}]
FIELDS = ["schema", "name", "classes", "protocol", "source", "counts", "skipped", "notes", "contents"]


@given(
    field=st.sampled_from([*FIELDS, "clips", "fingerprint", "version"]),
    inner=st.sampled_from(["", "root", "options", "frames", "seconds", "train", "frames.npy"]),
    value=st.sampled_from(WRONG),
)
@settings(max_examples=150, deadline=None)
def test_no_wrong_type_in_store_json_is_a_defect(store, tmp_path_factory, field, inner, value):
    copy = linked(store, tmp_path_factory)
    meta = json.loads((store / "store.json").read_text())
    if inner and isinstance(meta[field], dict):
        meta[field] = {**meta[field], inner: value}
    else:
        meta[field] = value
    (copy / "store.json").write_text(json.dumps(meta))
    assert_read_or_refused(copy)


@given(st.one_of(st.binary(max_size=200), st.integers(1, 10_000).map(lambda n: b"[" * n)), st.booleans())
@settings(max_examples=60, deadline=None)
def test_no_bytes_as_store_json_are_a_defect(store, tmp_path_factory, content, nested):
    copy = linked(store, tmp_path_factory)
    text = b'{"schema": "' + SCHEMA.encode() + b'", "classes": ' + content if nested else content
    (copy / "store.json").write_bytes(text)
    assert_read_or_refused(copy)


@given(
    at=st.floats(0, 1), junk=st.binary(min_size=1, max_size=20), name=st.sampled_from(["clips.csv", "npy"])
)
@settings(max_examples=60, deadline=None)
def test_no_bytes_in_a_table_or_header_are_a_defect(store, tmp_path_factory, at, junk, name):
    copy = linked(store, tmp_path_factory)
    file = copy / (name if name == "clips.csv" else "frames.npy")
    content = bytearray(file.read_bytes())
    offset = int(at * (min(len(content), 128) if name == "npy" else len(content)))
    content[offset : offset + len(junk)] = junk
    file.unlink()
    file.write_bytes(content)
    assert_read_or_refused(copy)


def linked(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a new folder with links to the files of a store, but with another store.json."""
    copy = tmp_path_factory.mktemp("store")
    for path in store.iterdir():
        if path.name != "store.json" and path.is_file():
            os.link(path, copy / path.name)
    shutil.copy(store / "store.json", copy)
    return copy


def assert_read_or_refused(path: Path) -> None:
    """Assert that a store can be read in full, or is refused by one line and exit code 3."""
    try:
        opened = open_store(path)
        summarise(opened)
        require_intact(opened)
    except MgapError as error:
        assert error.exit_code == ExitCode.UNFIT and str(path) in error.message
        assert len(error.message.splitlines()) == 1 and len(error.message) < 1000


# --- what has no effect


def test_a_store_reads_the_same_after_it_was_copied(store, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in store.iterdir():
        if not path.name.startswith("."):  # as `cp store/* copy` does
            shutil.copy(path, copy)
    done = mgap("inspect", copy, "--verify", "--json")
    assert done.code == 0 and done.json()["fingerprint"] == open_store(store).fingerprint
    with (copy / "clips.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(np.load(copy / "audio.npy", mmap_mode="r"))
