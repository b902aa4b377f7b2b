"""`mgap compare --tune`: equally many trials for every method, on validation only, and then the cells."""

from __future__ import annotations

import csv
import io
import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.program import TINY, mgap, sets, start

from mgap_cli.comparison.plan import TRIAL_SEED, Cell, Trial
from mgap_cli.comparison.process_pool import Worker
from mgap_cli.config import preset, read_yaml
from mgap_cli.data.loading.loader import Loader
from mgap_cli.data.store import open_store
from mgap_cli.methods import load_method
from mgap_cli.workflow.cell import CellJob, run_cell

pytest.importorskip("optuna")

SETTINGS = sets(*TINY, "train.epochs=1")
TRIALS = 2


def line(store: Path, results: Path, *more: object) -> list[object]:
    words = ["compare", store, "--methods", "joint,agm", "--seeds", 1, "--tune", TRIALS, "-o", results]
    return [*words, "--jobs", 2, *SETTINGS, *more]


def records_of(results: Path) -> dict[str, object]:
    """Return all results of trials and cells, without their times."""
    records = {}
    for path in sorted(results.glob("*/*/*/*.json")):
        record = json.loads(path.read_text())
        record.pop("seconds", None)
        records[path.relative_to(results).as_posix()] = record
    return records


@pytest.fixture(scope="module")
def tuned(store, tmp_path_factory) -> Path:
    """A finished comparison, which tests only read."""
    results = tmp_path_factory.mktemp("tuned") / "results"
    done = mgap(*line(store, results))
    assert done.code == 0, done.err
    assert f"values chosen on validation by {TRIALS} trials per method" in done.out
    return results


def test_a_dry_run_counts_trials(store, tmp_path):
    done = mgap(*line(store, tmp_path / "results", "--dry-run"))
    assert done.code == 0 and "6 of 6 cells to run (4 of them trials), 6 epochs" in done.out, done.err


def test_cells_have_the_values_that_the_trials_chose(tuned, store):
    document = mgap("compare", tuned, "--table", "json").json()
    assert [(t["method"], t["trials"]) for t in document["tunings"]] == [("joint", TRIALS), ("agm", TRIALS)]
    for tuning in document["tunings"]:
        best = max(tuning["outcomes"], key=lambda trial: trial["accuracy"])
        assert tuning["chosen"] == best and tuning["seed"] == TRIAL_SEED
        run = tuned / "cells" / store.name / tuning["method"] / "seed0"
        written = read_yaml(run / "config.yaml")
        for key, value in best["values"].items():
            section, _, name = key.partition(".")
            assert written[section][name] == value


def test_every_form_of_the_table_has_the_values(tuned):
    rows = list(csv.DictReader(io.StringIO(mgap("compare", tuned, "--table", "csv").out)))
    assert {row["trials"] for row in rows} == {str(TRIALS)}
    assert {tuple(json.loads(row["chosen"])) for row in rows} == {("train.lr",), ("train.lr", "agm.alpha")}
    for form in ("markdown", "latex"):
        assert "chosen on validation" in mgap("compare", tuned, "--table", form).out
    page = (tuned / "index.html").read_text()
    assert "chosen on validation" in page and str(TRIAL_SEED) in page


def test_the_status_shows_trials(tuned):
    cells = mgap("compare", tuned, "--status", "--json").json()["cells"]
    assert [cell["trial"] for cell in cells] == [0, 0, 1, 1, None, None]
    assert {cell["state"] for cell in cells} == {"done"}
    assert "agm, trials" in mgap("compare", tuned, "--status").out


def test_trials_keep_no_checkpoints(tuned):
    assert not list(tuned.glob("trials/**/*.pt")) and list(tuned.glob("cells/**/*.pt"))


def test_killed_again_and_again_it_ends_the_same(tuned, store, tmp_path):
    results = tmp_path / "results"
    for reached in ("trials/*/*/trial0/metrics.jsonl", "cells/*/*/seed0"):
        running = start(*line(store, results))
        assert running.until(lambda reached=reached: any(results.glob(reached)))
        running.send(signal.SIGKILL)
        running.wait()
    done = mgap(*line(store, results))
    assert done.code == 0, done.err
    assert records_of(results) == records_of(tuned)


def test_a_stop_signal_among_the_trials_asks_for_the_same_command(store, tmp_path):
    results = tmp_path / "results"
    running = start(*line(store, results))
    assert running.until(lambda: any(results.glob("trials/*/*/trial0/metrics.jsonl")))
    time.sleep(0.1)
    running.send(signal.SIGTERM)
    stopped = running.wait()
    assert stopped.code == 75 and "Run the same command again" in stopped.err, stopped.err


def test_another_number_of_trials_is_refused(tuned, store):
    mgap(*line(store, tuned, "--tune", 3)).fails(2, "2 trials", "--tune 2")
    words = ["compare", store, "--methods", "joint,agm", "--seeds", 1, "-o", tuned, *SETTINGS]
    mgap(*words).fails(2, "2 trials", "Choose another folder")


def test_what_cannot_be_tuned_is_refused(store, tmp_path):
    results = tmp_path / "results"
    mgap(*line(store, results, "--set", "train.select=test")).fails(2, "train.select is test")
    mgap(*line(store, results, "--set", "agm.alpha=50")).fails(2, "agm.alpha is 50", "--methods agm:alpha=50")
    words = [
        "compare",
        store,
        "--methods",
        "agm:alpha=50",
        "--tune",
        2,
        "-o",
        results,
        *SETTINGS,
        "--dry-run",
    ]
    assert mgap(*words).code == 0


def test_no_trial_reads_a_test_sample(store, tmp_path, monkeypatch):
    """Every sample reaches a network through a Loader, and no Loader of a trial gives a test sample."""
    splits = open_store(store).splits
    read: set[str] = set()
    make = Loader.__init__

    def recorded(self: Loader, of: object, indices: np.ndarray, *more: object, **named: object) -> None:
        read.update(splits[np.asarray(indices)].tolist())
        make(self, of, indices, *more, **named)

    monkeypatch.setattr(Loader, "__init__", recorded)
    words = dict(word.split("=") for word in (*TINY, "train.epochs=2", "warmup.epochs=1"))
    methods = [load_method(name).name for name in ("freeze", "adaptive")]
    config = preset("digits").updated(words, "test").with_methods(methods)
    for method in methods:
        trial = Trial(store.name, method, TRIAL_SEED, 0)
        run_cell(CellJob(trial, store, method, config.to_dict(), tmp_path), Worker("cpu", 1))
        assert json.loads(trial.record(tmp_path).read_text())["figures"].keys() == {"val"}
    assert read == {"train", "val"}
    run_cell(
        CellJob(Cell(store.name, "joint", 0), store, "joint", config.to_dict(), tmp_path), Worker("cpu", 1)
    )
    assert read == {"train", "val", "test"}
