"""Damaged, unusual or hostile tables of a user get a defined answer from the analysis."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.program import mgap, sets

FAST = sets("analysis.resamples=49", "gap.n_init=1")
N = 12
LABELS = np.arange(N) % 3
P = np.linspace(0.05, 0.95, N)
ROWS = [f"clip{i},c{LABELS[i]},{P[i]:.3f},{P[-1 - i]:.3f}" for i in range(N)]


def table(*rows: str, header: str = "id,label,p_audio,p_visual", end: str = "\n") -> bytes:
    """Return a CSV file of a dozen good rows, with `rows` in place of the first of them."""
    return end.join([header, *rows, *ROWS[len(rows) :], ""]).encode()


def arrays(**changed: object) -> bytes:
    """Return an NPZ file of a dozen good samples, with other arrays in place of some."""
    content = io.BytesIO()
    # Callers give object arrays only to test that they are refused.
    np.savez(content, **{"label": LABELS, "p_audio": P, "p_visual": P[::-1], **changed})  # type: ignore[arg-type]
    return content.getvalue()


def archive(header: str, data: bytes = b"") -> bytes:
    """Return an NPZ file whose label is a .npy file with this header."""
    text = header.encode().ljust(117) + b"\n"
    content = io.BytesIO(arrays())
    with zipfile.ZipFile(content) as old:
        members = {name: old.read(name) for name in old.namelist()}
    members["label.npy"] = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as new:
        for name, member in members.items():
            new.writestr(name, member)
    return content.getvalue()


def npy() -> bytes:
    content = io.BytesIO()
    np.save(content, P)
    return content.getvalue()


def parquet(**changed: object) -> bytes:
    import pyarrow
    from pyarrow import parquet

    content = io.BytesIO()
    columns = {"id": [f"clip{i}" for i in range(N)], "label": LABELS, "p_audio": P, "p_visual": P, **changed}
    parquet.write_table(pyarrow.table(columns), content)
    return content.getvalue()


LISTS = [[0.5, 0.5]] * N
UNFIT: dict[str, tuple[str, Callable[[], bytes], list[str]]] = {
    "trailing garbage": ("csv", lambda: table("x,c0,0.5abc,0.1"), ["line 2", "'p_audio'", "'0.5abc'"]),
    "a shifted column": ("csv", lambda: table('x,c0,"0,1",'), ["line 2", "'p_audio'", "'0,1'"]),
    "an escape sequence": ("csv", lambda: table("x,c0,\x1b[31m,1"), ["line 2", r"'\x1b[31m'"]),
    "a NUL": ("csv", lambda: table("x,c0,0.5,0.1", "y\0z,c0,0.5,0.1"), ["line 3", "NUL"]),
    "no UTF-8": ("csv", lambda: table() + b"\xffid,c0,0.5,0.5\n", ["line 14", "UTF-8"]),
    "UTF-16": ("csv", lambda: table().decode().encode("utf-16"), ["line 1", "UTF-8"]),
    "an open quote": ("csv", lambda: table('x,c0,"0.5,0.1'), ["line 2", "never closed"]),
    "a quote in a field": ("csv", lambda: table('5" disk,c0,0.5,0.1'), ["line 2", "quote"]),
    "text after a quote": ("csv", lambda: table('"x"y,c0,0.5,0.1'), ["line 2", "after a closing quote"]),
    "two open quotes": ("csv", lambda: table('"x,c0,0.5,0.1', '"y,c0,0.5,0.1'), ["line 3", "quote"]),
    "ragged after blanks": ("csv", lambda: table("", "x,c0,.5,.1", "", "y,c0,.5"), ["line 5 has 3 fields"]),
    "ragged after a line break": ("csv", lambda: table('"x,\n",c0,.5,.1', "y,c0,.5"), ["line 4 has 3"]),
    "a line break in an id": ("csv", lambda: table('"x\ny",c0,.5,.1'), [r"'x\ny'", "line break"]),
    "an id twice": ("csv", lambda: table("clip5,c0,.5,.1"), ["1 of 12", "'clip5'"]),
    "a header twice": ("csv", lambda: table(header="id,label,p_audio,p_audio"), ["two columns", "'p_audio'"]),
    "only a header": ("csv", lambda: b"id,label,p_audio,p_visual\n", ["no rows"]),
    "only blank lines": ("csv", lambda: b"\n\n", ["CSV"]),
    "a fractional NPZ label": ("npz", lambda: arrays(label=LABELS + 0.5), ["'label'", "float64"]),
    "huge labels": ("npz", lambda: arrays(label=np.full(N, 1e300)), ["'label'", "float64"]),
    "infinite labels": ("npz", lambda: arrays(label=np.full(N, np.inf)), ["'label'", "float64"]),
    "bytes as labels": ("npz", lambda: arrays(label=np.array([b"a"] * N)), ["'label'", "|S1"]),
    "complex scores": ("npz", lambda: arrays(p_audio=P + 0j), ["'p_audio'", "complex128"]),
    "dates as scores": ("npz", lambda: arrays(p_audio=np.zeros(N, "M8[s]")), ["'p_audio'", "datetime64"]),
    "text as scores": ("npz", lambda: arrays(p_audio=np.array(["0.5"] * N)), ["'p_audio'", "<U3"]),
    "truth values as scores": ("npz", lambda: arrays(p_audio=P > 0.5), ["'p_audio'", "bool"]),
    "a structure": ("npz", lambda: arrays(p_audio=np.zeros(N, "f8,f8")), ["'p_audio'", "f8"]),
    "objects": ("npz", lambda: arrays(p_audio=np.array([None] * N)), ["'p_audio'", "object"]),
    "infinite scores": ("npz", lambda: arrays(p_audio=np.full(N, np.inf)), ["12 of 12 audio", "infinite"]),
    "a class twice": (
        "npz",
        lambda: arrays(label=LABELS % 2, p_audio=LISTS, p_visual=LISTS, classes=["a", "a"]),
        ["'a'", "Two classes"],
    ),
    "half a surrogate pair": ("npz", lambda: arrays(id=[f"\ud800{i}" for i in LABELS]), ["'id'", "Unicode"]),
    "another length": ("npz", lambda: arrays(p_audio=P[1:]), ["'p_audio'", "(11,)", "12 labels"]),
    "a single label": ("npz", lambda: arrays(label=np.array(1)), ["'label'", "()"]),
    "a column of dates": ("npz", lambda: arrays(group=np.zeros(N, "M8[s]")), ["'group'", "datetime64"]),
    "a renamed .npy": ("npz", npy, ["not an NPZ file"]),
    "a huge shape": (
        "npz",
        lambda: archive("{'descr': '<i8', 'fortran_order': False, 'shape': (99999999999999,)}"),
        ["'label'", "99999999999999"],
    ),
    "nothing, a huge number of times": (
        "npz",
        lambda: archive("{'descr': '<U0', 'fortran_order': False, 'shape': (99999999999999,)}"),
        ["'label'", "damaged"],
    ),
    "a nested header": ("npz", lambda: archive("(" * 116), ["'label'"]),
    "half a zip": ("npz", lambda: arrays()[:-30], ["not an NPZ file"]),
    "fractional Parquet labels": ("parquet", lambda: parquet(label=LABELS + 0.5), ["'label'", "double"]),
    "text as Parquet scores": ("parquet", lambda: parquet(p_audio=["many"] * N), ["row 1", "'p_audio'"]),
    "a missing score": ("parquet", lambda: parquet(p_audio=[0.5, None] * 6), ["row 2", "'p_audio'"]),
    "a missing id": ("parquet", lambda: parquet(id=["a", "b", None] * 4), ["row 3", "'id'"]),
    "lists of two lengths": (
        "parquet",
        lambda: parquet(label=[0] * N, p_audio=[[0.5, 0.5], [1.0]] * 6, p_visual=LISTS),
        ["row 2", "'p_audio'"],
    ),
    "a missing score in a list": (
        "parquet",
        lambda: parquet(label=[0] * N, p_audio=[*LISTS[1:], [0.5, None]], p_visual=LISTS),
        ["row 12", "'p_audio'"],
    ),
    "a map as scores": ("parquet", lambda: parquet(p_audio=[{"a": 1}] * N), ["'p_audio'", "struct"]),
    "half a Parquet file": ("parquet", lambda: parquet()[:-20], ["Parquet"]),
}  # fmt: skip


@pytest.mark.parametrize("case", UNFIT)
def test_unfit_scores_are_refused_with_file_and_place(case, tmp_path):
    suffix, content, words = UNFIT[case]
    path = tmp_path / f"scores.{suffix}"
    path.write_bytes(content())
    done = mgap("analyze-gap", path, *FAST)
    done.fails(3, f"{path}: ", *words)
    assert all(c.isprintable() or c == "\n" for c in done.err)


def test_the_last_cell_of_a_chunk_is_a_number_or_an_error(tmp_path):
    """Rows are read in parts, and the last row of a part is checked as strictly as any other row."""
    rows = [f"s{i},c{i % 2},0.5,0.25" for i in range(50_001)]
    rows[49_999] += "abc"
    path = tmp_path / "scores.csv"
    path.write_bytes(table(*rows))
    mgap("analyze-gap", path, *FAST).fails(3, "line 50001", "'p_visual'", "'0.25abc'")


ODD = ["a\u2028b", "c\x85d", "e\x0bf", "g\x0ch", " i ", 'j"k', "l,m", "n\u202eo"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_unusual_names_line_ends_and_marks_are_read_exactly(end, mark, tmp_path):
    from mgap_cli.gap import read_scores

    quoted = ['"' + name.replace('"', '""') + '"' if set(name) & set(',"') else name for name in ODD]
    rows = [f'{name},"{name[0]}", +0.5 ,1e-1' for name in quoted if not name.startswith('"')]
    rows += [f"{name},x,0.5,.1" for name in quoted if name.startswith('"')]
    path = tmp_path / "scores.csv"
    path.write_bytes(mark + table(*rows, "", "", end=end))
    scores = read_scores(path)
    assert set(ODD) < set(scores.ids) and len(scores.ids) == N - 2
    assert (scores.p["audio"][: len(ODD)] == 0.5).all() and (scores.p["visual"][: len(ODD)] == 0.1).all()


@pytest.mark.parametrize("suffix", ["csv", "npz", "parquet"])
@pytest.mark.parametrize("file_type", ["missing", "pipe", "device", "folder"])
def test_what_is_not_a_regular_file_is_refused_before_it_is_opened(suffix, file_type, tmp_path):
    path = tmp_path / f"scores.{suffix}"
    words = {"missing": "no such file", "pipe": "a pipe", "device": "a device", "folder": "is a folder"}
    if file_type == "pipe":
        os.mkfifo(path)
    elif file_type == "device":
        path.symlink_to("/dev/zero")
    elif file_type == "folder":
        path.mkdir()
    if file_type != "folder":  # a folder is taken for a run folder
        mgap("analyze-gap", path, *FAST).fails(2, str(path), words[file_type])
    scores = tmp_path / "good.csv"
    scores.write_bytes(table())
    mgap("analyze-gap", scores, "--human", path, *FAST).fails(2, str(path), words[file_type])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("audio,audio", "'audio' is named twice"),
        ("audio,", "'' is not"),
        ("", "the value is empty"),
        ("audio,fused", "'fused'"),
    ],
)
def test_modalities_are_named_once(names, words, tmp_path):
    path = tmp_path / "scores.csv"
    path.write_bytes(table())
    mgap("analyze-gap", path, "--modalities", names, *FAST).fails(2, "--modalities", words)


def test_a_modality_may_begin_like_another(tmp_path):
    header = "id,label,p_left,p_left_ear"
    path = tmp_path / "scores.csv"
    path.write_bytes(table(header=header))
    done = mgap("analyze-gap", path, "--modalities", "left,left_ear", "--json", *FAST)
    assert list(done.json()["fits"]) == ["left-left_ear"]


def test_lists_for_adapt_have_defined_answers(run, tmp_path):
    def only(path: Path):
        return mgap("adapt", run / "warmup.pt", "-o", tmp_path / "new", "--only", path)

    path = tmp_path / "list.csv"
    os.mkfifo(tmp_path / "pipe.csv")
    only(tmp_path / "pipe.csv").fails(2, "--only", "a pipe")
    only(tmp_path).fails(2, "--only", "a folder")
    for content, words in (
        (b"id\na\n\nb\0\n", ["line 4", "NUL"]),
        (b"id\n\xff\n", ["cannot be read as text"]),
        (b'id,gap\na,"0\n', ["line 2"]),
        (b'id,gap\n\n"a"b,0\n', ["line 3"]),
        (b"id,gap\n\na\n", ["line 3 has 1 fields"]),
        (b"id,id\na,b\n", ["two columns", "'id'"]),
        (b"id\na\na\n", ["1 ids are listed twice", "'a'"]),
        ("id\na\x85b\nc\n".encode(), ["2 of 2 ids", r"'a\x85b'"]),
    ):
        path.write_bytes(content)
        only(path).fails(3, str(path), *words)
    assert not (tmp_path / "new").exists()
