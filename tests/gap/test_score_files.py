"""Files of scores: every format gives the same result, and errors name the cause."""

from __future__ import annotations

import contextlib
import csv
import io
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from helpers.program import ROOT
from scipy.special import softmax

from mgap_cli.errors import MgapError, UnfitError, UsageError
from mgap_cli.gap import examine, measure, read_scores

N, C = 60, 3
GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.integers(0, C, N)
LOGITS = {name: GENERATOR.normal(size=(N, C)) * 2 for name in ("audio", "visual", "fused")}
P = {name: softmax(z, axis=1)[np.arange(N), LABELS] for name, z in LOGITS.items()}
IDS = [f"clip {i}" for i in range(N)]


def write(path: Path, columns: dict[str, object]) -> Path:
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def matrix(form: str, name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    return {f"{form}_{name}_{c}": values[:, c] for c in range(values.shape[1])}


def plain(**more: object) -> dict[str, object]:
    return {"id": IDS, "label": LABELS, "p_audio": P["audio"], "p_visual": P["visual"], **more}


def all_forms(folder: Path) -> dict[str, Path]:
    import pyarrow
    from pyarrow import parquet

    probabilities = {name: softmax(z, axis=1) for name, z in LOGITS.items()}
    logits = {k: v for name, z in LOGITS.items() for k, v in matrix("logits", name, z).items()}
    both = {k: v for name, p in probabilities.items() for k, v in matrix("p", name, p).items()}
    paths = {
        "true.csv": write(folder / "true.csv", plain()),
        "quoted.csv": folder / "quoted.csv",
        "logits.csv": write(folder / "logits.csv", {"id": IDS, "label": LABELS, **logits}),
        "p.csv": write(folder / "p.csv", {"id": IDS, "label": LABELS, **both}),
        "true.npz": folder / "true.npz",
        "logits.npz": folder / "logits.npz",
        "true.parquet": folder / "true.parquet",
        "nested.parquet": folder / "nested.parquet",
    }
    text = paths["true.csv"].read_text(encoding="utf-8")
    paths["quoted.csv"].write_text(text.replace("clip 7", '"clip 7"').replace("\n", "\r\n") + "\n\n")
    np.savez(paths["true.npz"], id=IDS, label=LABELS, p_audio=P["audio"], p_visual=P["visual"])
    arrays = {f"logits_{name}": z for name, z in LOGITS.items()}
    np.savez(paths["logits.npz"], id=IDS, label=LABELS, **arrays)
    parquet.write_table(pyarrow.table(plain()), paths["true.parquet"])
    nested = {"id": IDS, "label": LABELS, **{name: list(z) for name, z in arrays.items()}}
    parquet.write_table(pyarrow.table(nested), paths["nested.parquet"])
    return paths


@pytest.mark.parametrize(
    "name",
    [
        "true.csv",
        "quoted.csv",
        "logits.csv",
        "p.csv",
        "true.npz",
        "logits.npz",
        "true.parquet",
        "nested.parquet",
    ],
)
def test_every_form_gives_the_same_result(name, tmp_path):
    table = read_scores(all_forms(tmp_path)[name])
    assert table.ids == IDS
    assert table.classes == ("0", "1", "2")
    np.testing.assert_array_equal(table.labels, LABELS)
    (scores,) = table.pairs()
    assert scores.modalities == ("audio", "visual")
    np.testing.assert_allclose(scores.p["audio"], P["audio"], atol=1e-12)
    np.testing.assert_allclose(scores.p["visual"], P["visual"], atol=1e-12)
    for head, predicted in scores.predicted.items():
        np.testing.assert_array_equal(predicted, LOGITS[head].argmax(axis=1))
    assert set(scores.predicted) == (set() if name.startswith(("true", "quoted")) else set(LOGITS))
    if scores.predicted:
        np.testing.assert_allclose(scores.p_fused, P["fused"], atol=1e-12)
    else:
        assert scores.p_fused is None


def test_chunks_of_rows_do_not_matter(tmp_path, monkeypatch):
    path = write(tmp_path / "a.csv", plain(group=[f"g{i % 7}" for i in range(N)]))
    whole = read_scores(path)
    monkeypatch.setattr("mgap_cli.gap.tabular._BLOCK", 300)
    parts = read_scores(path)
    assert whole.ids == parts.ids and dict(whole.columns) == dict(parts.columns)
    np.testing.assert_array_equal(whole.labels, parts.labels)
    np.testing.assert_array_equal(whole.p["audio"], parts.p["audio"])
    assert read_scores(path, columns={"group"}).columns["group"] == [f"g{i % 7}" for i in range(N)]
    assert not read_scores(path, columns=set()).columns


def test_named_modalities_and_classes_with_underscores(tmp_path):
    z = {name: LOGITS[m] for name, m in (("left_ear", "audio"), ("right_ear", "visual"))}
    classes = ("play_guitar", "sing", "play")
    logits = {f"logits_{n}_{c}": z[n][:, k] for n in z for k, c in enumerate(classes)}
    path = write(tmp_path / "a.csv", {"id": IDS, "label": [classes[i] for i in LABELS], **logits})
    with pytest.raises(UsageError, match="where the modality ends"):
        read_scores(path)
    table = read_scores(path, ["right_ear", "left_ear"])
    assert table.classes == classes
    (scores,) = table.pairs()
    np.testing.assert_allclose(scores.gap, P["visual"] - P["audio"], atol=1e-12)


def test_the_fused_head_is_not_a_modality_and_may_have_true_class_scores(tmp_path):
    path = write(tmp_path / "a.csv", plain(p_fused=P["fused"], split=["val"] * 7 + ["test"] * (N - 7)))
    (scores,) = read_scores(path).of_split("test").pairs()
    np.testing.assert_allclose(scores.p_fused, P["fused"][7:], atol=1e-12)
    path = write(tmp_path / "a.csv", plain(p_fused=P["fused"] + 1))
    with pytest.raises(UnfitError, match="60 of 60 fused scores lie outside"):
        read_scores(path)


def test_three_modalities_make_three_pairs(tmp_path):
    path = write(tmp_path / "a.csv", plain(p_text=GENERATOR.random(N)))
    assert [s.modalities for s in read_scores(path).pairs()] == [
        ("audio", "visual"), ("audio", "text"), ("visual", "text"),
    ]  # fmt: skip
    assert [s.modalities for s in read_scores(path, ["text", "audio"]).pairs()] == [("text", "audio")]


def changed(column: str, row: int, value: object) -> dict[str, object]:
    columns = {name: list(values) for name, values in plain().items()}  # type: ignore[call-overload]
    columns[column][row] = value
    return columns


HALVES = np.full((N, C), 0.5)
BAD = {
    "above 1": (changed("p_audio", 3, 1.2), "1 of 60 audio scores lie outside [0, 1], such as that of 'cl"),
    "below 0": (changed("p_visual", 3, -0.2), "1 of 60 visual scores lie outside [0, 1]"),
    "nan": (changed("p_audio", 9, "nan"), "1 of 60 audio scores are NaN or infinite, such as that of 'cl"),
    "empty": (changed("p_audio", 9, ""), "line 11: column 'p_audio' is empty"),
    "text": (changed("p_audio", 9, "many"), "line 11: column 'p_audio' has 'many', which is not a number"),
    "duplicate": (changed("id", 9, "clip 3"), "1 of 60 samples repeat an id of another, such as 'cl"),
    "no id": (changed("id", 9, ""), "line 11: column 'id' is empty"),
    "no label": (changed("label", 9, ""), "line 11: column 'label' is empty"),
    "column": ({k: v for k, v in plain().items() if k != "label"}, "no column 'label'"),
    "modality": ({k: v for k, v in plain().items() if k != "p_visual"}, "two modalities"),
    "sums": (
        {"id": IDS, "label": LABELS, **matrix("p", "audio", HALVES), **matrix("p", "visual", HALVES)},
        "60 of 60 rows of audio probabilities do not sum to 1",
    ),
    "class": (
        {"id": IDS, "label": LABELS + 1, **matrix("p", "audio", HALVES), **matrix("p", "visual", HALVES)},
        "label '3' is not one of the scores' classes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_errors_about_bad_tables_name_the_file_and_the_place(case, tmp_path):
    columns, words = BAD[case]
    path = write(tmp_path / "bad.csv", columns)  # type: ignore[arg-type]
    with pytest.raises(UnfitError) as caught:
        read_scores(path)
    assert caught.value.message.startswith(str(path)) and words in caught.value.message


@pytest.mark.parametrize("suffix", ["csv", "npz", "parquet"])
@pytest.mark.parametrize("content", [b"", b"\x93\x00\xff" * 50, b"id,label,p_audio,p_visual\n"])
def test_damaged_files_are_unfit(suffix, content, tmp_path):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    with pytest.raises(UnfitError, match=r"a\."):
        read_scores(path)


def test_ragged_rows_are_counted(tmp_path):
    path = write(tmp_path / "a.csv", plain())
    path.write_text(path.read_text() + "x,0,0.5\n")
    with pytest.raises(UnfitError, match="line 62 has 3 fields, but the header has 4"):
        read_scores(path)
    path.write_text(path.read_text().replace("clip 2,", '"clip 2",').replace("clip 9,", '\n\n"clip\t9",'))
    with pytest.raises(UnfitError, match="line 64 has 3 fields, but the header has 4"):
        read_scores(path)


def three_lines(text: str) -> str:
    """Return the block of code in a text that uses this package, without its empty lines."""
    block = re.search(r"^( *)from mgap_cli\.gap import [^\n]*\n\n?(?:\1[^\n`]+\n)+", text, re.MULTILINE)
    assert block, "no such code"
    return textwrap.dedent(block[0]).replace("\n\n", "\n")


def test_the_documented_three_lines_run():
    import mgap_cli.gap

    lines = three_lines(mgap_cli.gap.__doc__)
    page = (ROOT / "mgap_cli/docs/analysis.md").read_text(encoding="utf-8")
    assert three_lines(page) == lines
    assert len(lines.splitlines()) == 3
    given = {"labels": LABELS, "p_audio": P["audio"], "p_visual": P["visual"]}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(lines, given)
    fit = measure(LABELS, audio=P["audio"], visual=P["visual"])
    assert str(fit.balanced_share) in printed.getvalue()
    assert examine(fit).sentence in printed.getvalue()


def test_three_lines_in_a_users_program():
    torch = pytest.importorskip("torch")
    audio, visual = (torch.tensor(LOGITS[m]).softmax(1) for m in ("audio", "visual"))
    fit = measure(torch.tensor(LABELS), audio=audio, visual=visual)
    np.testing.assert_allclose(fit.scores.gap, P["audio"] - P["visual"], atol=1e-12)
    same = measure(LABELS.astype(float), radar=P["audio"], lidar=P["visual"])
    np.testing.assert_allclose(same.posterior, fit.posterior, atol=1e-9)
    assert same.scores.modalities == ("radar", "lidar")
    assert examine(fit).sentence


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: measure(LABELS, audio=P["audio"]), "two modalities; found audio"),
        (lambda: measure(LABELS, a=P["audio"], b=P["visual"][:-1]), "there are 60 labels"),
        (lambda: measure(LABELS, a=LOGITS["audio"], b=LOGITS["visual"]), "outside"),
        (lambda: measure(LABELS + 1, a=HALVES, b=HALVES), "not in 0..2"),
        (lambda: measure(LABELS, a=P["audio"], b=P["visual"], ids=["x"] * N), "59 of 60 samples repeat an"),
        (lambda: measure([], a=[], b=[]), "no samples"),
    ],
)  # fmt: skip
def test_unfit_arrays_are_refused(call, words):
    with pytest.raises(MgapError, match=words):
        call()


def test_importing_the_package_is_light():
    program = "import sys, mgap_cli.gap; print(sorted({'numpy', 'torch', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
