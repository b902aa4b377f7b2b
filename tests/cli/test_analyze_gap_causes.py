"""`analyze-gap --held-out` and `gap.scores=held-out`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from helpers.program import TINY, metrics, mgap, sets


def test_the_cause_of_each_modality(run: Path, tmp_path: Path):
    words = ("analyze-gap", run / "warmup.pt", "--held-out", "-o", tmp_path, *sets("analysis.resamples=9"))
    done = mgap(*words, "--json")
    assert done.code == 0, done.err
    document = done.json()
    causes = {c["modality"]: c for c in document["causes"]}
    assert set(causes) == {"audio", "visual"} and document["gap_scores"] == "pass"
    assert json.loads((tmp_path / "gap-warmup.json").read_text())["causes"] == document["causes"]
    for cause in causes.values():
        assert cause["cause"] in ("late", "memorised", "uninformative", "balanced")
        assert cause["training"]["n"] == cause["cross_fitted"]["n"] > cause["validation"]["n"] > 0
    text = mgap(*words, env={"COLUMNS": "80"}).out
    table = text[text.index("Why a modality lags") :].split("\n\n")[0]
    assert "cross-fitted" in table and f"audio is {causes['audio']['cause']}" in table
    assert max(map(len, table.splitlines())) <= 80


def test_the_mixture_over_held_out_scores(run: Path, tmp_path: Path):
    fits = {}
    for scores in ("pass", "held-out"):
        folder = tmp_path / scores
        words = ("--gap-scores", scores, "-o", folder, "--json", *sets("analysis.resamples=9"))
        done = mgap("analyze-gap", run / "warmup.pt", *words)
        assert done.code == 0, done.err
        fits[scores] = done.json()
        assert json.loads((folder / "gap-warmup.json").read_text())["gap_scores"] == scores
    assert fits["pass"]["fits"]["train"] != fits["held-out"]["fits"]["train"]
    assert fits["pass"]["fits"]["val"] == fits["held-out"]["fits"]["val"], "held out by itself"


def test_adapt_on_held_out_scores(run: Path, tmp_path: Path):
    mixtures = {}
    for scores in ("pass", "held-out"):
        folder = tmp_path / scores
        words = ("--gap-scores", scores, "--epochs", "1", *sets(*TINY))
        done = mgap("adapt", shutil.copy(run / "warmup.pt", tmp_path / "warmup.pt"), "-o", folder, *words)
        assert done.code == 0, done.err
        mixtures[scores] = metrics(folder, "adapt")[0]["mixture"]
    assert mixtures["pass"]["n"] == mixtures["held-out"]["n"]
    assert mixtures["pass"]["components"] != mixtures["held-out"]["components"]


def test_held_out_needs_exactly_one_checkpoint(run: Path, tmp_path: Path):
    scores = tmp_path / "scores.csv"
    scores.write_text("id,label,p_audio,p_visual\na,0,0.1,0.2\n")
    for words in ([scores], [run / "warmup.pt", run / "warmup.pt"], [run, "--history"]):
        mgap("analyze-gap", *words, "--held-out").fails(2, "--held-out takes one checkpoint")
