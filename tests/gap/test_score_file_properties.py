"""Whatever a table contains, a reader returns it or raises one usage or unfit error of printable lines."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mgap_cli.analysis.breakdown import breakdown, where
from mgap_cli.analysis.listener_votes import read_votes
from mgap_cli.config import AnalysisConfig, GapConfig
from mgap_cli.data.sample_lists import read_ids
from mgap_cli.errors import ExitCode, MgapError
from mgap_cli.gap.mixture import analyse
from mgap_cli.gap.score_files import read_scores
from mgap_cli.gap.scores import Scores

MANY = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
HEADERS = ["id,label,p_audio,p_visual", "id,label,p_a_0,p_a_1,p_b_0,p_b_1", "fileName,A,D,F,H,N,S"]
CELL = st.one_of(
    st.sampled_from(
        ["", "0", "1", "0.5", "nan", "1e999", "0.5abc", " .5 ", '"0,5"', '"', '""', "100001", "c"]
    ),
    st.text(max_size=6),
)
ROW = st.lists(CELL, min_size=1, max_size=8).map(",".join)
CSV = st.builds(
    lambda header, rows, end, mark: mark + end.join([header, *rows]).encode("utf-8", "surrogatepass"),
    st.sampled_from(HEADERS),
    st.lists(ROW, max_size=6),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
DTYPES = st.sampled_from(
    ["f2", "f4", ">f8", "g", "i1", "u8", "?", "c16", "M8[s]", "m8[D]", "U3", "S2", "O", "f8,i4", "V3"]
)


def answered(read: Callable[[], object]) -> Any:
    """Return the result of a reader, or None if it refuses the file with a proper error."""
    try:
        return read()
    except MgapError as error:
        assert error.exit_code in (ExitCode.USAGE, ExitCode.UNFIT)
        for line in (error.message, error.hint):
            assert all(map(str.isprintable, line)), line
        return None


def damaged(content: bytes, at: float, byte: int, how: str) -> bytes:
    """Return the content of a file cut, or with one byte changed, at a share of its length."""
    offset = int(at * len(content))
    return content[:offset] if how == "cut" else content[:offset] + bytes([byte]) + content[offset + 1 :]


DAMAGE = {"at": st.floats(0, 0.999), "byte": st.integers(0, 255), "how": st.sampled_from(["cut", "change"])}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("properties")


@MANY
@given(content=st.one_of(CSV, st.binary(max_size=80)), suffix=st.sampled_from(["csv", "npz", "parquet"]))
def test_any_text_or_bytes(folder, content, suffix):
    path = folder / f"scores.{suffix}"
    path.write_bytes(content)
    table = answered(lambda: read_scores(path))
    if table is not None:
        assert len(table.ids) == len(table.labels) == len(set(table.ids))
        assert all(np.isfinite(p).all() and len(p) == len(table.ids) for p in table.p.values())


@MANY
@given(content=st.one_of(CSV, st.binary(max_size=80)), suffix=st.sampled_from(["csv", "txt"]))
def test_any_list_of_ids_and_any_votes(folder, content, suffix):
    path = folder / f"list.{suffix}"
    path.write_bytes(content)
    ids = answered(lambda: read_ids(path))
    assert ids is None or len(ids) == len(set(ids)) > 0
    answered(lambda: read_votes(path))


@MANY
@given(
    dtypes=st.fixed_dictionaries(dict.fromkeys(("id", "label", "p_a", "logits_b", "classes", "c"), DTYPES)),
    shape=st.lists(st.integers(0, 4), max_size=3),
    byte=st.integers(0, 255),
)
def test_any_type_and_shape_of_arrays(folder, dtypes, shape, byte):
    def filled(dtype: str) -> np.ndarray:
        if dtype == "O":
            return np.full(shape, None)
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return (
            np.frombuffer(bytes([byte]) * size, dtype=dtype).reshape(shape)
            if size
            else np.zeros(shape, dtype)
        )

    path = folder / "types.npz"
    np.savez(path, **{name: filled(dtype) for name, dtype in dtypes.items()})
    answered(lambda: read_scores(path))


def good_files() -> dict[str, bytes]:
    import pyarrow
    from pyarrow import parquet

    n = 20
    columns = {"id": [f"s{i}" for i in range(n)], "label": np.arange(n) % 2}
    columns |= {name: np.linspace(0, 1, n) for name in ("p_audio", "p_visual")}
    files = {"csv": io.BytesIO(), "npz": io.BytesIO(), "parquet": io.BytesIO()}
    text = io.StringIO()
    csv.writer(text).writerows([list(columns), *zip(*columns.values(), strict=True)])
    files["csv"].write(text.getvalue().encode())
    np.savez(files["npz"], **columns)
    parquet.write_table(pyarrow.table(columns), files["parquet"])
    return {suffix: file.getvalue() for suffix, file in files.items()}


GOOD = good_files()


@settings(MANY, max_examples=150)
@given(suffix=st.sampled_from(sorted(GOOD)), **DAMAGE)
def test_any_damage_to_a_good_file(folder, suffix, at, byte, how):
    path = folder / f"damaged.{suffix}"
    path.write_bytes(damaged(GOOD[suffix], at, byte, how))
    answered(lambda: read_scores(path))


@MANY
@given(
    values=st.lists(st.one_of(CELL, st.floats().map(str), st.integers().map(str)), min_size=20, max_size=20),
    condition=st.text(max_size=8),
)
def test_any_column_makes_groups_or_is_refused(values, condition):
    n = len(values)
    p = np.linspace(0, 1, n)
    scores = Scores(
        [str(i) for i in range(n)],
        ("a",),
        np.zeros(n, np.int64),
        {"a": p, "b": p[::-1]},
        columns={"x": values},
    )
    fit = analyse(scores, GapConfig(n_init=1))
    groups = answered(lambda: breakdown(fit, "x", np.ones(n, bool), AnalysisConfig()))
    assert groups is None or sum(group.n for group in groups.groups) == n
    for chosen in (condition, f"x={condition}", f"x={values[0]}"):
        answered(lambda chosen=chosen: where(fit, [chosen]))
