"""`mgap compare` trains cells, continues after kills and failures, and prints a table of the results."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.program import HANG, ROOT, TINY, listing, mgap, sets, start

SETTINGS = sets(*TINY, "train.epochs=2", "warmup.epochs=1")
METHODS = "joint,joint-heads"
BROKEN = """
from mgap_cli.methods.base import Method


class Broken(Method):
    name = "broken"

    def loss(self, outputs, batch):
        raise ValueError("this method is broken")
"""


def line(store: Path, results: Path, *more: object) -> list[object]:
    return ["compare", store, "--methods", METHODS, "--seeds", 2, "-o", results, *SETTINGS, *more]


def values(results: Path) -> dict[tuple[str, str, str], str]:
    done = mgap("compare", results, "--table", "csv")
    assert done.code == 0, done.err
    rows = csv.DictReader(io.StringIO(done.out))
    return {(row["store"], row["method"], row["seed"]): row["fused.accuracy"] for row in rows}


@pytest.fixture(scope="module")
def compared(store, tmp_path_factory) -> Path:
    """A finished comparison, which tests only read."""
    results = tmp_path_factory.mktemp("compared") / "results"
    done = mgap(*line(store, results, "--jobs", 2, "--threads", 1))
    assert done.code == 0, done.err
    assert "2 at a time, CPU threads of each: 1\n" in done.err, done.err
    assert "difference to joint-heads" in done.out and "cannot be told apart" in done.out
    return results


def test_a_cell_is_a_run_of_train(compared, store, tmp_path):
    name = store.name
    done = mgap("train", store, "--method", "joint", "-o", tmp_path / "run", "--seed", 1, *SETTINGS)
    assert done.code == 0, done.err
    evaluated = mgap("evaluate", tmp_path / "run" / "train.pt", "--json")
    accuracy = evaluated.json()["evaluations"][0]["heads"]["fused"]["accuracy"]
    assert float(values(compared)[name, "joint", "1"]) == accuracy
    assert (compared / "cells" / name / "joint" / "seed1" / "train.pt").is_file()


def test_a_finished_comparison_is_only_shown(compared, store):
    before = listing(compared)
    again = mgap(*line(store, compared))
    assert again.code == 0, again.err
    assert again.out == mgap("compare", compared).out
    after = listing(compared)
    assert {k: v for k, v in before.items() if "cells" in k} == {
        k: v for k, v in after.items() if "cells" in k
    }


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("markdown", "| joint | "),
        ("latex", "\\toprule"),
        ("csv", "store,method,seed,fused.accuracy"),
        ("json", '"schema": "mgap.compare/1"'),
    ],
)
def test_the_table_has_every_format(compared, form, words):
    done = mgap("compare", compared, "--table", form)
    assert done.code == 0 and words in done.out, done.err


def test_the_page_is_in_the_folder_and_report_writes_it_again(compared, tmp_path):
    assert "<h1>mgap compare" in (compared / "index.html").read_text()
    done = mgap("report", compared, "-o", tmp_path / "page.html")
    assert done.code == 0 and done.out == f"{tmp_path / 'page.html'}\n", done.err
    assert (tmp_path / "page.html").read_text().count("<img ") == 4


def test_the_status_counts_cells(compared):
    done = mgap("compare", compared, "--status", "--json")
    assert [cell["state"] for cell in done.json()["cells"]] == ["done"] * 4


def test_a_dry_run_trains_nothing(store, tmp_path):
    done = mgap(*line(store, tmp_path / "results", "--dry-run"))
    assert done.code == 0 and "4 of 4 cells to run, 8 epochs" in done.out, done.err
    assert not (tmp_path / "results").exists()


def test_more_seeds_and_methods_extend_a_comparison(compared, store, tmp_path):
    results = Path(shutil.copytree(compared, tmp_path / "results"))
    done = mgap("compare", store, "--methods", f"{METHODS},ogm", "--seeds", 2, "-o", results, *SETTINGS)
    assert done.code == 0, done.err
    assert "2 cells to run, 4 already finished" in done.err
    assert {method for _, method, _ in values(results)} == {"joint", "joint-heads", "ogm"}


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_again_and_again_it_ends_with_the_same_table(compared, store, tmp_path, kills):
    """Half of the kills are in the first cells' epochs, and half at the end of a cell or soon after."""
    results = tmp_path / "results"
    for kill in range(kills):
        reached = ("cells/*/*/*/metrics.jsonl", "cells/*/*/*.json")[2 * kill // kills]
        running = start(*line(store, results, "--jobs", 2))
        there = set(results.glob(reached))
        running.until(lambda reached=reached, there=there: bool({*results.glob(reached)} - there))
        time.sleep(kill % 5 / 20)
        running.send(signal.SIGKILL)
        running.wait()
    done = mgap(*line(store, results, "--jobs", 2))
    assert done.code == 0, done.err
    assert values(results) == values(compared)


def test_a_stop_signal_saves_and_asks_for_the_same_command(store, tmp_path):
    results = tmp_path / "results"
    words = line(store, results, "--methods", "joint", "--seeds", 1)
    running = start(*words)
    assert running.until(lambda: any(results.glob("cells/*/*/seed0/metrics.jsonl")))
    running.send(signal.SIGTERM)
    stopped = running.wait()
    assert stopped.code == 75 and "Run the same command again" in stopped.err, stopped.err
    assert mgap(*words).code == 0


def test_a_signal_to_every_process_fails_no_cell(store, tmp_path):
    """A scheduler also signals the cells and the server from which they are forked."""
    results = tmp_path / "results"
    words = [sys.executable, "-m", "mgap_cli", *map(str, line(store, results, "--jobs", 2))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(words, start_new_session=True, env=environment, stderr=subprocess.DEVNULL)
    while not any(results.glob("cells/*/*/seed0/metrics.jsonl")):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(HANG) == 75
    states = {cell["state"] for cell in mgap("compare", results, "--status", "--json").json()["cells"]}
    assert states <= {"done", "missing"}


def test_a_failed_cell_does_not_stop_the_others(store, tmp_path):
    method, results = tmp_path / "broken.py", tmp_path / "results"
    method.write_text(BROKEN)
    words = ["compare", store, "--methods", f"joint,{method}:Broken", "--seeds", 1, "-o", results, *SETTINGS]
    done = mgap(*words)
    assert done.code == 1 and "1 of 2 cells failed" in done.err, done.err
    assert "joint" in done.out
    status = mgap("compare", results, "--status")
    assert "1 failed" in status.out and "this method is broken" in status.out
    again = mgap(*words)
    assert again.code == 1 and "Broken" in again.err
    method.write_text(
        BROKEN.replace('raise ValueError("this method is broken")', "return outputs.fused.mean()")
    )
    repaired = mgap(*words, "--retry-failed")
    assert repaired.code == 0, repaired.err
    assert json.loads(mgap("compare", results, "--status", "--json").out)["cells"][1]["state"] == "done"


def test_other_settings_are_refused(compared, store):
    done = mgap(*line(store, compared, "--lr", "0.5"))
    done.fails(2, "train.lr", "Choose another folder")


def test_a_plan_from_before_a_setting_continues_with_the_settings_default(compared, store, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(compared, results)
    plan = json.loads((results / "plan.json").read_text())
    for tree in plan["settings"].values():
        del tree["gap"]["n_init"]  # TINY's value is not the default
        del tree["train"]["clip_norm"]
    (results / "plan.json").write_text(json.dumps(plan))
    mgap(*line(store, results)).fails(2, "gap.n_init=20", "asks for 1")
    for tree in plan["settings"].values():
        tree["gap"]["n_init"] = 1
    (results / "plan.json").write_text(json.dumps(plan))
    mgap(*line(store, results, "--clip-norm", 1)).fails(2, "train.clip_norm=0.0", "asks for 1.0")
    done = mgap(*line(store, results))
    assert done.code == 0 and "earlier version of mgap" in done.err and "train.clip_norm=0.0" in done.err
    assert values(results) == values(compared)
    assert "earlier version" not in mgap(*line(store, results)).err


def test_networks_of_one_modality_alone_are_compared_by_their_own_head(store, tmp_path):
    methods = "unimodal:modality=audio,unimodal:modality=visual"
    done = mgap(*line(store, tmp_path, "--methods", methods, "--seeds", 1, "--table", "json"))
    assert done.code == 0, done.err
    rows = {row["method"]: row["values"]["0"] for row in done.json()["rows"]}
    for modality in ("audio", "visual"):
        method = f"unimodal-modality={modality}"
        evaluated = mgap("evaluate", tmp_path / "cells" / store.name / method / "seed0", "--json").json()
        heads = evaluated["evaluations"][0]["heads"]
        assert rows[method] == heads[modality]["accuracy"]


def test_wrong_use_is_one_message(compared, store, tmp_path):
    mgap("compare").fails(2, "no store")
    mgap("compare", store).fails(2, "no method")
    mgap("compare", store, "--methods", "jiont", "-o", tmp_path / "a").fails(2, "jiont")
    mgap("compare", store, "--methods", "joint:x=1", "-o", tmp_path / "a").fails(2, "joint.x")
    mgap("compare", tmp_path / "none", "--methods", "joint", "-o", tmp_path / "a").fails(3, "none")
    mgap("compare", compared, "--metric", "fused.speed").fails(2, "fused.accuracy")
    mgap("compare", compared, "--reference", "agm").fails(2, "joint-heads")
    unnamed = mgap(*line(store, tmp_path / "a", "--methods", "joint,unimodal"))
    unnamed.fails(2, "unimodal.modality", "audio")
    assert not (tmp_path / "a" / "cells").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    mgap(*line(store, tmp_path / "full")).fails(2, "thesis.tex")


@pytest.mark.parametrize("rule", ["mean", "calibrated", "auto"])
def test_methods_are_compared_by_a_decision_rule(compared, store, rule):
    document = mgap("compare", compared, "--rule", rule, "--table", "json").json()
    assert document["metric"] == f"rule.{rule}.accuracy"
    for row in document["rows"]:
        assert set(row["others"]) == {"fused", "audio", "visual"}
        for seed, value in row["values"].items():
            checkpoint = compared / "cells" / store.name / row["method"] / f"seed{seed}"
            rules = json.loads((checkpoint / "evaluate.json").read_text())["evaluations"][0]["decision_rules"]
            wanted = rules["chosen_by_validation"] if rule == "auto" else rule
            (rule_accuracy,) = [r["accuracy"] for r in rules["rows"] if r.get("rule") == wanted]
            assert value == pytest.approx(rule_accuracy)
    tested = [row["against"] for row in document["rows"] if row["against"]]
    assert tested and all(0 <= against["p_samples"] <= 1 for against in tested)


def test_a_rule_that_no_cell_has_is_refused(compared):
    mgap("compare", compared, "--rule", "median").fails(2, "median", "calibrated")
    mgap("compare", compared, "--rule", "mean", "--metric", "fused.ece").fails(2, "--rule and --metric")
