"""`mgap export`: the same predictions in three formats, as evaluate and analyze-gap use them; bad input."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from helpers.program import mgap
from pyarrow import parquet

from mgap_cli.data.store import open_store
from mgap_cli.evaluation.decision_rules import load_rule
from mgap_cli.gap.score_files import read_scores
from mgap_cli.stats.opinion_pool import log_probabilities

HEADS = ("fused", "audio", "visual")


def exported(run, path, *arguments):
    done = mgap("export", run / "warmup.pt", "-o", path, *arguments)
    assert done.code == 0 and done.out == f"{path}\n", done.err
    return path


def columns_of(path):
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {name: [row[name] for row in rows] for name in rows[0]}
    return parquet.read_table(path).to_pydict()


def probabilities(columns, classes):
    return {head: np.array([columns[f"p_{head}_{c}"] for c in classes], dtype=np.float64).T for head in HEADS}


def test_all_formats_agree_with_evaluate(run, store, tmp_path):
    opened = open_store(store)
    wanted = [opened.ids[i] for i in opened.indices("test")]
    (e,) = mgap("evaluate", run / "warmup.pt", "--json").json()["evaluations"]
    files = [exported(run, tmp_path / name) for name in ("a.csv", "a.parquet")]
    arrays = np.load(exported(run, tmp_path / "a.npz"))
    for file in files:
        columns = columns_of(file)
        assert (
            columns["id"] == wanted
            and set(columns["split"]) == {"test"}
            and set(columns["rule"]) == {"fused"}
        )
        for head, p in probabilities(columns, opened.classes).items():
            np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-6)
            np.testing.assert_array_equal(p, arrays[f"p_{head}"])
            right = [a == b for a, b in zip(columns["label"], columns[f"predicted_{head}"], strict=True)]
            assert np.mean(right) == e["heads"][head]["accuracy"]
            assert columns[f"predicted_{head}"] == [opened.classes[i] for i in p.argmax(axis=1)]
        assert columns["decision"] == columns["predicted_fused"]
    assert arrays["id"].tolist() == wanted and arrays["classes"].tolist() == list(opened.classes)
    np.testing.assert_array_equal(arrays["decision"], arrays["predicted_fused"])


def test_the_decision_is_that_of_the_rule_fitted_on_validation(run, store, tmp_path):
    classes = open_store(store).classes
    heads, labels = {}, {}
    for split in ("val", "test"):
        columns = columns_of(exported(run, tmp_path / f"{split}.csv", "--split", split))
        heads[split] = log_probabilities(probabilities(columns, classes))
        labels[split] = np.array([classes.index(label) for label in columns["label"]])
    expected = load_rule("calibrated").fit(heads["val"], labels["val"]).combine(heads["test"])
    columns = columns_of(exported(run, tmp_path / "b.parquet", "--rule", "calibrated"))
    decision = np.array([columns[f"decision_p_{c}"] for c in classes]).T
    np.testing.assert_allclose(decision, expected, atol=1e-6)
    assert set(columns["rule"]) == {"calibrated"}


def test_the_document_names_the_rule_that_auto_chose(run, tmp_path):
    line = ["export", run / "warmup.pt", "-o", tmp_path / "c.npz", "--rule", "auto", "--json"]
    document = mgap(*line).json()
    (e,) = mgap("evaluate", run / "warmup.pt", "--json").json()["evaluations"]
    assert document["schema"] == "mgap.export/1" and document["n"] == e["n"]
    assert document["heads"] == list(HEADS)
    assert document["decision"]["asked"] == "auto"
    assert document["decision"]["name"] == e["decision_rules"]["chosen_by_validation"]
    assert set(np.load(tmp_path / "c.npz")["rule"]) == {document["decision"]["name"]}


@pytest.mark.parametrize("suffix", [".csv", ".npz", ".parquet"])
def test_analyze_gap_reads_the_file(run, store, tmp_path, suffix):
    path = exported(run, tmp_path / f"d{suffix}")
    scores = read_scores(path, ("audio", "visual"))
    samples = mgap("analyze-gap", run / "warmup.pt", "--split", "test", "--json").json()["samples"]
    gaps = {sample["id"]: sample["gap"] for sample in samples}
    assert [gaps[i] for i in scores.ids] == pytest.approx(scores.gap.tolist(), abs=1e-6)
    assert set(scores.predicted) == set(HEADS)


def test_bad_input(run, tmp_path):
    mgap("export", run / "warmup.pt", "-o", tmp_path / "x.xlsx").fails(2, "x.xlsx", ".csv, .npz or .parquet")
    mgap("export", run / "warmup.pt", "-o", tmp_path / "x").fails(2, "does not name a format")
    mgap("export", run / "warmup.pt", "-o", tmp_path / "x.csv", "--split", "dev").fails(3, "dev")
    mgap("export", run / "warmup.pt", "-o", tmp_path / "x.csv", "--rule", "median").fails(2, "median")
    mgap("export", run / "warmup.pt").fails(2, "--output")
    assert not list(tmp_path.glob("x*"))
