"""`analyze-gap RUN --history`, and `analyze-gap` of several checkpoints."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from helpers.program import metrics, mgap, sets
from rich.cells import cell_len

from mgap_cli.report.tables.movement import history_tables

FAST = sets("analysis.resamples=19", "gap.n_init=1", "evaluate.bootstrap=50")


def test_every_adaptive_epoch_keeps_its_mixture(finished, run):
    entries = metrics(run, "adapt")
    assert len(entries) == 3 and not any("mixture" in e for e in metrics(run, "warmup"))
    for number, entry in enumerate(entries, start=1):
        mixture = entry["mixture"]
        assert mixture["fitted_epoch"] == number and mixture["kind"] == "absolute"
        assert sum(c["weight"] for c in mixture["components"]) == pytest.approx(1, abs=1e-5)
    # The first mixture is that of the warm-up, which analyze-gap fits again.
    fit = mgap("analyze-gap", run / "warmup.pt", "--json", *FAST).json()["fits"]["train"]
    first = entries[0]["mixture"]
    assert first["n"] == fit["n"] and first["balanced_share"] == pytest.approx(fit["balanced_share"])
    for kept, fitted in zip(first["components"], fit["components"], strict=True):
        assert kept["role"] == fitted["role"]
        assert [kept[k] for k in ("weight", "mean", "sd")] == pytest.approx(
            [fitted[k] for k in ("weight", "mean", "sd")], rel=1e-5
        )


def test_refits_are_distinguished_from_epochs(run, tmp_path):
    done = mgap("adapt", run / "warmup.pt", "-o", tmp_path / "rare", "--refit-every", 2)
    assert done.code == 0, done.err
    entries = metrics(tmp_path / "rare", "adapt")
    assert [e["mixture"]["fitted_epoch"] for e in entries] == [1, 1, 3]
    assert entries[0]["mixture"] == entries[1]["mixture"]


def test_epochs_without_a_mixture_are_shown_without_it(run):
    """Methods that fit no mixture write none to metrics.jsonl."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    bare = [{k: v for k, v in line.items() if k != "mixture"} for line in lines]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in bare))
    done = mgap("analyze-gap", run, "--history")
    assert done.code == 0 and "No epoch has a mixture" in done.out
    assert mgap("analyze-gap", run, "--history", "--plot").code == 0


@pytest.mark.parametrize("width", [80, 120])
def test_tables_keep_their_width(run, width):
    env = {"COLUMNS": str(width)}
    for args in (["--history"], ["--top", 3]):
        given = [run] if "--history" in args else [run / "warmup.pt", run / "adapt.pt", *FAST]
        done = mgap("analyze-gap", *given, *args, env=env)
        assert done.code == 0, done.err
        assert max(map(cell_len, done.out.splitlines())) <= width
    for words in ("Moves from warmup to adapt, train, n = ", "How the gaps changed", "Moves by class"):
        assert words in done.out


def test_history(run):
    done = mgap("analyze-gap", run, "--history", "--plot", "--json")
    document = done.json()
    assert document["schema"] == "mgap.history/1" and len(document["epochs"]) == 6
    assert (run / "history.png").read_bytes().startswith(b"\x89PNG")
    out = mgap("analyze-gap", run, "--history").out
    share = document["epochs"][-1]["mixture"]["balanced_share"]
    assert "adapt 3" in out and f"{100 * share:.1f}" in out


def test_components_are_followed_by_role(capsys):
    from rich.console import Console

    def mixture(*parts: tuple[str, float]) -> dict[str, object]:
        components = [{"role": role, "weight": 0.25, "mean": mean, "sd": 0.1} for role, mean in parts]
        return {"n": 9, "kind": "signed", "fitted_epoch": 1, "balanced_share": 0.5, "components": components}

    entries = [
        {"stage": "adapt", "epoch": 1, "mixture": mixture(("visual-dominated", -0.5), ("balanced", 0.01))},
        {"stage": "adapt", "epoch": 2, "mixture": mixture(("balanced", 0.02), ("audio-dominated", 0.6))},
    ]
    Console(width=80).print(*history_tables(entries))
    rows = {line[:7]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert rows["adapt 1"][2:9] == ["50.0", "25.0", "-0.500", "25.0", "0.010", "-", "-"]
    assert rows["adapt 2"][2:9] == ["50.0", "-", "-", "25.0", "0.020", "25.0", "0.600"]


def test_movement(run, tmp_path):
    path = tmp_path / "moves.csv"
    checkpoints = (run / "warmup.pt", run / "adapt.pt")
    done = mgap("analyze-gap", *checkpoints, "--json", "--plot", "--csv", path, *FAST)
    document = done.json()
    assert document["schema"] == "mgap.movement/2" and document["checkpoints"] == ["warmup", "adapt"]
    assert json.loads((run / "movement.json").read_text()) == document
    assert (run / "movement.png").read_bytes().startswith(b"\x89PNG")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == document["n"]
    first, last = (
        {s["id"]: s for s in mgap("analyze-gap", c, "--json", *FAST).json()["samples"]} for c in checkpoints
    )
    moves = {(m["before"], m["after"]): m["samples"] for m in document["since_first"][0]["refitted"]["moves"]}
    sides = [
        tuple("imbalanced" if s[row["id"]]["posterior"] >= 0.5 else "balanced" for s in (first, last))
        for row in rows
    ]
    assert moves == {
        (a, b): sides.count((a, b)) for a in ("imbalanced", "balanced") for b in ("balanced", "imbalanced")
    }
    fixed = {(m["before"], m["after"]): m["samples"] for m in document["since_first"][0]["fixed"]["moves"]}
    assert fixed["imbalanced", "balanced"] == sum(row["sides"] == "imbalanced-balanced" for row in rows)
    for row in rows[:20]:
        assert float(row["gap_1"]) == pytest.approx(first[row["id"]]["gap"], abs=1e-5)
        assert float(row["refitted_posterior_2"]) == pytest.approx(last[row["id"]]["posterior"], abs=1e-4)
    assert np.isfinite([float(row["fixed_posterior_2"]) for row in rows]).all()


def test_wrong_use_is_reported(run, other_store, tmp_path):
    other = tmp_path / "other"
    small = sets("model.width=4", "augment.image_size=8", "warmup.epochs=1", "train.epochs=2")
    assert mgap("warmup", other_store, "-o", other, *small).code == 0
    mgap("analyze-gap", run / "warmup.pt", other / "warmup.pt").fails(3, "another data set", "same store")
    assert not (other / "movement.json").exists()
    mgap("analyze-gap", run / "adapt.pt", "--history").fails(2, "needs a run folder", str(run))
    mgap("analyze-gap", run, other, "--history").fails(2, "only one run folder")
    mgap("analyze-gap", tmp_path / "none", "--history").fails(3, "no such run folder")
    mgap("analyze-gap", tmp_path).fails(3, "no checkpoint of a finished stage")
    mgap("analyze-gap", tmp_path, "--history").fails(3, "nothing was trained there")
    mgap("analyze-gap", run / "warmup.pt", run / "gone.pt").fails(3, "gone.pt", "no such checkpoint")
    (run / "metrics.jsonl").write_text('{"stage": "adapt"')
    mgap("analyze-gap", run, "--history").fails(3, "metrics.jsonl", "damaged")
    (run / "metrics.jsonl").write_text('{"stage": "adapt", "epoch": 1, "mixture": {"components": [1]}}\n')
    mgap("analyze-gap", run, "--history").fails(3, "metrics.jsonl", "damaged")
