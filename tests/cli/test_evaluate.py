"""`mgap evaluate` on one checkpoint, several and several seeds; columns, plots, robustness, bad input."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.program import TINY, mgap, sets
from sklearn import metrics as sk

FEW_LEVELS = sets("evaluate.snr_db=0", "evaluate.frame_noise=0.3", "evaluate.occlusion=0.4,0.2")
SEEDED = ("joint", "joint-heads")


@pytest.fixture(scope="session")
def seeds(store, finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs of two methods with two seeds each, which tests only read."""
    folder = tmp_path_factory.getbasetemp() / "seeds"
    for method in SEEDED:
        for seed in (0, 1):
            run = folder / f"{method}-{seed}"
            line = ["warmup", store, "-o", run, *sets(*TINY), "--epochs", 1, "--method", method]
            done = mgap(*line, "--seed", seed)
            assert done.code == 0, done.err
    return folder


@pytest.fixture
def runs(seeds: Path, tmp_path: Path) -> list[Path]:
    """The checkpoints of `seeds` in a new folder, method by method."""
    shutil.copytree(seeds, tmp_path / "runs")
    return [tmp_path / "runs" / f"{o}-{s}" / "warmup.pt" for o in SEEDED for s in (0, 1)]


def test_one_checkpoint(run):
    document = mgap("evaluate", run / "warmup.pt", "--json", "--by", "class", "--by", "duration").json()
    (e,) = document["evaluations"]
    assert document["comparisons"] == document["group_comparisons"] == []
    assert e["checkpoint"] == str(run / "warmup.pt") and e["robustness"] == []
    for head in ("fused", "audio", "visual"):
        m = e["heads"][head]
        confusion = np.array(m["confusion"])
        assert confusion.sum() == e["n"] and confusion.sum(axis=1).tolist() == e["class_counts"]
        true, predicted = np.nonzero(confusion)
        weight = confusion[true, predicted]
        truth, said = np.repeat(true, weight), np.repeat(predicted, weight)
        assert m["accuracy"] == pytest.approx(sk.accuracy_score(truth, said))
        assert m["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, said))
        assert m["accuracy"] <= m["top_k"]["accuracy"] and m["top_k"]["k"] == 5
        assert sum(m["reliability"]["counts"]) == e["n"] and len(m["reliability"]["counts"]) == 15
        assert 0 <= m["ece_interval"][0] <= m["ece_interval"][1] <= 1
    by_class, by_duration = e["by"]
    shares = {g["value"]: g["heads"]["fused"]["accuracy"] for g in by_class["groups"]}
    assert shares == {
        name: share
        for name, share in zip(e["classes"], e["heads"]["fused"]["per_class_accuracy"], strict=True)
        if share is not None
    }
    assert list(shares.values()) == sorted(shares.values())
    assert sum(g["n"] for g in by_duration["groups"]) == e["n"]


def test_accuracy_by_a_column_is_that_of_its_rows(store, run):
    """The numbers of samples are those of clips.csv, for each value of the label column."""
    rows = list(csv.DictReader((store / "clips.csv").open()))
    counts = {
        label: sum(r["label"] == label and r["split"] == "test" for r in rows)
        for label in {r["label"] for r in rows}
    }
    (e,) = mgap("evaluate", run / "warmup.pt", "--by", "label", "--json").json()["evaluations"]
    assert {g["value"]: g["n"] for g in e["by"][0]["groups"]} == {k: n for k, n in counts.items() if n}


def test_plots_are_written_beside_each_checkpoint(run):
    done = mgap("evaluate", run / "warmup.pt", run / "adapt.pt", "--plot")
    assert done.code == 0, done.err
    names = sorted(p.name for p in run.glob("evaluate-*.png"))
    assert names == [
        f"evaluate-{s}-{what}.png" for s in ("adapt", "warmup") for what in ("calibration", "confusion")
    ]
    assert all((run / name).read_bytes().startswith(b"\x89PNG") for name in names)
    assert f"wrote {run / names[0]}" in done.err and "wrote" not in done.out


def test_robustness_sweep(run):
    line = ["evaluate", run / "warmup.pt", "--robustness", "--json", *FEW_LEVELS]
    (e,) = mgap(*line).json()["evaluations"]
    conditions = [(m["corruption"], m["level"], m["fill"]) for m in e["robustness"]]
    assert conditions == [
        ("clean", None, None), ("audio noise", 0, None), ("frame noise", 0.3, None),
        ("occlusion", 0.2, None), ("occlusion", 0.4, None),
        *((f"{m} missing", None, fill) for m in ("audio", "visual") for fill in ("zeros", "mean")),
    ]  # fmt: skip
    clean = e["robustness"][0]["heads"]
    for m in e["robustness"]:
        unharmed = "visual" if m["corruption"].startswith("audio") else "audio"
        assert (
            m["heads"][unharmed] == clean[unharmed]
        )  # noise in the other modality does not affect a unimodal head
        low, high = m["heads"]["fused"]["accuracy_interval"]
        assert low <= m["heads"]["fused"]["accuracy"] <= high
    for head, m in clean.items():
        assert m["accuracy"] == e["heads"][head]["accuracy"]
    # With the same input for all samples, a unimodal head predicts one class.
    shares = [m["heads"]["audio"]["accuracy"] for m in e["robustness"] if m["corruption"] == "audio missing"]
    assert all(any(share == pytest.approx(n / e["n"]) for n in e["class_counts"]) for share in shares)
    assert (run / "evaluate-robustness.png").read_bytes().startswith(b"\x89PNG")
    again = mgap(*line, *sets("runtime.eval_batch_size=7")).json()["evaluations"][0]
    assert again["robustness"] == e["robustness"]


def test_seeds_are_taken_together(runs):
    done = mgap("evaluate", *runs, "--json")
    document = done.json()
    assert [g["name"] for g in document["groups"]] == [f"warmup {o}" for o in SEEDED]
    assert [list(g["checkpoints"]) for g in document["groups"]] == [["0", "1"], ["0", "1"]]
    accuracies = [e["heads"]["fused"]["accuracy"] for e in document["evaluations"]]
    spread = document["groups"][1]["figures"]["fused.accuracy"]
    assert spread["mean"] == pytest.approx(np.mean(accuracies[2:]))
    assert spread["sd"] == pytest.approx(np.std(accuracies[2:], ddof=1))
    (c,) = document["group_comparisons"]
    assert c["differences"] == pytest.approx([accuracies[2] - accuracies[0], accuracies[3] - accuracies[1]])
    assert c["permutation_p"] >= c["smallest_attainable_p"] == 0.5
    assert len(document["comparisons"]) == 2
    assert all(c["mcnemar_p_holm"] >= c["mcnemar_p"] for c in document["comparisons"])
    assert json.loads((runs[-1].parent / "evaluate.json").read_text()) == document
    tables = mgap("evaluate", *runs, env={"COLUMNS": "80"})
    words = " ".join(tables.out.split())
    assert "Methods over seeds" in words and "Holm" in words and "that needs 6 seeds" in words
    assert max(map(len, tables.out.splitlines())) <= 80


def test_runs_with_the_same_name_get_different_names(runs, tmp_path):
    for number, path in enumerate(runs[::2]):
        (tmp_path / f"{number}").mkdir()
        shutil.copytree(path.parent, tmp_path / f"{number}" / "same")
    document = mgap("evaluate", "0/same/warmup.pt", "1/same/warmup.pt", "--json", cwd=tmp_path).json()
    assert [e["name"] for e in document["evaluations"]] == ["0/same/warmup", "1/same/warmup"]


def test_the_same_checkpoint_twice_counts_once(runs):
    done = mgap("evaluate", runs[0], runs[1], runs[0], "--json")
    assert done.code == 0 and "was given twice: seed 0 of warmup joint counts once" in done.err
    (group,) = done.json()["groups"]
    assert list(group["checkpoints"]) == ["0", "1"] and len(done.json()["evaluations"]) == 3


def test_one_seed_an_objective(runs):
    document = mgap("evaluate", runs[0], runs[2], "--json").json()
    assert document["group_comparisons"] == [] and len(document["comparisons"]) == 1
    assert all(g["figures"]["fused.accuracy"]["sd"] is None for g in document["groups"])
    assert "over seeds" not in mgap("evaluate", runs[0], runs[2]).out


def test_other_data_are_refused_by_name(other_store, run, tmp_path):
    assert mgap("warmup", other_store, "-o", tmp_path / "other", *sets(*TINY), "--epochs", 1).code == 0
    other = tmp_path / "other" / "warmup.pt"
    mgap("evaluate", run / "warmup.pt", other, "--json").fails(
        2, "different data sets", str(other), "one at a time"
    )
    assert not (tmp_path / "other" / "evaluate.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--by", "speaker"], 2, ["no column 'speaker'"]),
        (sets("evaluate.snr_db=loud"), 2, ["evaluate.snr_db", "'loud'"]),
        (sets("evaluate.occlusion=1.5"), 2, ["evaluate.occlusion is 1.5", "at most 1"]),
        (sets("evaluate.frame_noise=[]"), 2, ["evaluate.frame_noise is empty"]),
        (["gone.pt"], 3, ["gone.pt", "no such checkpoint"]),
    ],
    ids=["column", "text", "range", "empty", "missing"],
)
def test_bad_input(run, arguments, code, words):
    mgap("evaluate", run / "warmup.pt", *arguments).fails(code, *words)
    assert not list(run.glob("evaluate*"))
