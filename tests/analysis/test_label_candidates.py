"""Samples that may be labelled wrongly, and the fused head's loss and margin."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.program import mgap, sets

from mgap_cli.analysis.label_candidates import label_candidates
from mgap_cli.gap import read_scores

N, C = 60, 3
FAST = sets("analysis.resamples=9", "gap.n_init=1")


@pytest.fixture(scope="module")
def probabilities() -> dict[str, np.ndarray]:
    """Probabilities (N, C) of three heads; audio and visual agree on class 2 in samples 3 and 40."""
    g = np.random.default_rng(0)
    p = {name: g.dirichlet(np.ones(C), N) for name in ("audio", "visual", "fused")}
    for name, sure in (("audio", 0.92), ("visual", 0.96)):
        p[name][3] = p[name][40] = [0.0, 1 - sure, sure]
    p["audio"][40] = [0.01, 0.0, 0.99]
    p["visual"][5] = [0.0, 0.0, 1.0]  # only this head gives class 2
    p["audio"][5] = [1.0, 0.0, 0.0]
    return p


LABELS = np.arange(N) % 2  # no sample is of class 2


@pytest.fixture(scope="module")
def scores(probabilities, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("all") / "scores.npz"
    np.savez(path, label=LABELS, **{f"p_{name}": p for name, p in probabilities.items()})
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_candidates_are_those_of_a_plain_loop(scores, probabilities):
    table = read_scores(scores)
    for confidence in (0.5, 0.9, 0.95):
        expected = {}
        for i in range(N):
            classes = {int(probabilities[m][i].argmax()) for m in ("audio", "visual")}
            least = min(probabilities[m][i].max() for m in ("audio", "visual"))
            if len(classes) == 1 and classes != {LABELS[i]} and least >= confidence:
                expected[str(i)] = least
        candidates = label_candidates([table], np.ones(N, bool), confidence)
        assert candidates.ids == sorted(expected, key=lambda i: -expected[i])
        least = np.min([*candidates.confidence.values()], axis=0)
        np.testing.assert_allclose(least, [expected[i] for i in candidates.ids])
    assert label_candidates([table], np.zeros(N, bool), 0.5).ids == []


def test_the_list_and_its_document(scores, tmp_path):
    path = tmp_path / "relabel.csv"
    done = mgap("analyze-gap", scores, "--relabel", path, "--json", *FAST)
    assert done.code == 0, done.err
    listed = rows(path)
    assert [(r["id"], r["label"], r["suggested"]) for r in listed[:2]] == [("40", "0", "2"), ("3", "1", "2")]
    assert [float(listed[0][f"confidence_{m}"]) for m in ("audio", "visual")] == pytest.approx([0.99, 0.96])
    document = json.loads(done.out)["relabel"]
    assert document == {"path": str(path), "confidence": 0.9, "samples": len(listed)}
    done = mgap("analyze-gap", scores, "--relabel", path, *FAST, *sets("analysis.relabel_confidence=1"))
    assert done.code == 0 and rows(path) == [] and "0 of 60 samples" in done.err


def test_scores_of_the_true_class_name_no_other(probabilities, tmp_path):
    path = tmp_path / "true.npz"
    true = {f"p_{m}": p[np.arange(N), LABELS] for m, p in probabilities.items()}
    np.savez(path, label=LABELS, **true)
    mgap("analyze-gap", path, "--relabel", tmp_path / "x.csv", *FAST).fails(2, "true class alone")
    mgap("analyze-gap", path, "--relabel", path, *FAST).fails(2, "true.npz")
    table = read_scores(path)
    assert table.fused_margin is None
    np.testing.assert_allclose(table.fused_loss, -np.log(true["p_fused"]))


def test_loss_and_margin_of_the_fused_head(scores, probabilities, tmp_path):
    path = tmp_path / "gap.csv"
    assert mgap("analyze-gap", scores, "--csv", path, *FAST).code == 0
    fused = probabilities["fused"]
    for row in rows(path):
        i = int(row["id"])
        others = np.delete(fused[i], LABELS[i]).max()
        assert float(row["margin_fused"]) == pytest.approx(fused[i, LABELS[i]] - others)
        assert float(row["loss_fused"]) == pytest.approx(-np.log(fused[i, LABELS[i]]))
        assert (float(row["margin_fused"]) > 0) == (row["predicted_fused"] == row["label"])
