"""The decision rules of `mgap evaluate`: the table, the reported rule, the report and bad input."""

from __future__ import annotations

import json

import pytest
from helpers.program import mgap, sets

ROWS = [
    *("fused", "entropy", "mean", "mean-all", "product", "best", "calibrated", "stacked"),
    *("audio alone", "visual alone"),
]
FEW_LEVELS = sets("evaluate.snr_db=0", "evaluate.frame_noise=0.3", "evaluate.occlusion=0.4")


def rows_of(document):
    return {r.get("rule") or f"{r['head']} alone": r for r in document["decision_rules"]["rows"]}


def evaluated(run, *arguments):
    done = mgap("evaluate", run / "warmup.pt", "--json", *arguments)
    assert done.code == 0, done.err
    document = done.json()
    assert document["schema"] == "mgap.evaluate/3"
    return document["evaluations"][0]


def test_the_table_has_every_rule_and_every_head(run):
    e = evaluated(run)
    rows = rows_of(e)
    assert list(rows) == ROWS and e["decision"] is None and "decision" not in e["heads"]
    for name, row in rows.items():
        low, high = row["accuracy_interval"]
        assert low <= row["accuracy"] <= high
        assert row["difference_to_fused"] == pytest.approx(row["accuracy"] - rows["fused"]["accuracy"])
        assert row["mcnemar_p_holm"] >= row["mcnemar_p"] or name == "fused"
        assert 0 <= row["validation_accuracy"] <= 1
    for head in ("fused", "audio", "visual"):
        row = rows[head if head == "fused" else f"{head} alone"]
        assert row["accuracy"] == e["heads"][head]["accuracy"]
    rules = [r for r in rows.values() if "rule" in r]
    highest = max(r["validation_accuracy"] for r in rules)
    assert rows[e["decision_rules"]["chosen_by_validation"]]["validation_accuracy"] == highest
    tables = mgap("evaluate", run / "warmup.pt", env={"COLUMNS": "80"}).out
    assert "Decision rules on test" in tables and "\naudio alone " in tables and "\nvisual alone " in tables
    assert f"{e['decision_rules']['chosen_by_validation']}*" in tables
    assert max(map(len, tables.splitlines())) <= 80


@pytest.mark.parametrize("rule", ["mean", "stacked", "auto"])
def test_a_rule_becomes_the_reported_head(run, rule):
    e = evaluated(run, "--rule", rule)
    decision, rows = e["decision"], rows_of(e)
    assert decision["asked"] == rule
    assert decision["name"] == (e["decision_rules"]["chosen_by_validation"] if rule == "auto" else rule)
    assert next(iter(e["heads"])) == "decision"
    assert e["heads"]["decision"]["accuracy"] == pytest.approx(rows[decision["name"]]["accuracy"])
    done = mgap("evaluate", run / "warmup.pt", "--rule", rule, env={"COLUMNS": "80"})
    assert f"Reported: {decision['name']}" in done.out and "mAP: decision rule" in done.out
    by_class = done.out.partition("Accuracy by class")[2].splitlines()
    assert all(any(line.startswith(name) for line in by_class) for name in e["classes"])
    assert max(map(len, done.out.splitlines())) <= 80


def test_checkpoints_are_compared_by_the_reported_rule(run):
    done = mgap("evaluate", run / "warmup.pt", run / "adapt.pt", "--rule", "mean", "--json")
    (c,) = done.json()["comparisons"]
    first, second = done.json()["evaluations"]
    assert c["head"] == "decision"
    assert c["accuracy_difference"] == pytest.approx(
        second["heads"]["decision"]["accuracy"] - first["heads"]["decision"]["accuracy"]
    )
    text = mgap("evaluate", run / "warmup.pt", run / "adapt.pt", "--rule", "mean", env={"COLUMNS": "80"}).out
    assert "Decision rules on test" in text and max(map(len, text.splitlines())) <= 80


def test_a_missing_modality_is_left_out_of_the_decision(run):
    e = evaluated(run, "--rule", "mean", "--robustness", *FEW_LEVELS)
    for measured in e["robustness"]:
        heads = {head: m["accuracy"] for head, m in measured["heads"].items()}
        if measured["corruption"] == "audio missing":
            assert heads["decision"] == heads["visual"]
        if measured["corruption"] == "visual missing":
            assert heads["decision"] == heads["audio"]
        if measured["corruption"] == "clean":
            assert heads["decision"] == e["heads"]["decision"]["accuracy"]


def test_on_validation_itself_rules_are_cross_fitted(run):
    e = evaluated(run, "--split", "val", "--rule", "best")
    for row in rows_of(e).values():
        assert row["accuracy"] == pytest.approx(row["validation_accuracy"])
    assert e["heads"]["decision"]["accuracy"] == pytest.approx(rows_of(e)["best"]["accuracy"])


def test_the_report_shows_the_table(run):
    e = evaluated(run, "--rule", "product")
    assert mgap("report", run).code == 0
    page = (run / "report.html").read_text()
    assert "Decision rules of" in page and "audio alone" in page and "Reported: product." in page
    assert "Accuracy on test (n = " in page and ", decision rule: " in page
    assert json.loads((run / "evaluate.json").read_text())["evaluations"][0] == e


def test_a_users_own_rule(run, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "from mgap_cli.evaluation.decision_rules.base import DecisionRule\n"
        "class Loudest(DecisionRule):\n"
        "    def combine(self, heads):\n"
        "        return np.exp(heads['audio'])\n"
    )
    e = evaluated(run, "--rule", f"{tmp_path / 'mine.py'}:Loudest")
    assert e["heads"]["decision"]["accuracy"] == e["heads"]["audio"]["accuracy"]


def test_bad_input(run):
    mgap("evaluate", run / "warmup.pt", "--rule", "median").fails(2, "median", "fused")
    assert not (run / "evaluate.json").exists()
