"""A run folder is accepted in place of a checkpoint, and working files do not count as checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.program import listing, mgap, sets

from mgap_cli.errors import UnfitError
from mgap_cli.output import Output
from mgap_cli.runs.run_checkpoints import checkpoint_in, finished_checkpoints, without_working_files

FAST = sets("analysis.resamples=19", "gap.n_init=1", "evaluate.bootstrap=50")


def test_evaluate_takes_the_last_finished_stage(run):
    by_folder = mgap("evaluate", run, *FAST, "--json")
    assert f"{run}: taking adapt.pt" in by_folder.err
    by_file = mgap("evaluate", run / "adapt.pt", *FAST, "--json")
    assert by_folder.json() == by_file.json()


def test_analyze_gap_accepts_a_folder_and_shows_history_only_on_request(run):
    by_folder = mgap("analyze-gap", run, *FAST, "--json")
    assert by_folder.json()["checkpoint"] == str(run / "adapt.pt")
    assert by_folder.json() == mgap("analyze-gap", run / "adapt.pt", *FAST, "--json").json()
    assert mgap("analyze-gap", run, "--history", "--json").json()["schema"] == "mgap.history/1"


def test_adapt_starts_from_the_stage_before(run, tmp_path):
    out = tmp_path / "again"
    done = mgap("adapt", run, "-o", out, "--epochs", 1, "--dry-run", "--json")
    assert done.code == 0 and "taking warmup.pt" in done.err
    # Without -o the run folder is continued, as with its warmup.pt: here it is already finished.
    assert mgap("adapt", run).out == mgap("adapt", run / "warmup.pt").out


def test_export_accepts_a_folder(run, tmp_path):
    files = [tmp_path / name for name in ("folder.csv", "file.csv")]
    assert (
        mgap("export", run, "-o", files[0]).code == mgap("export", run / "adapt.pt", "-o", files[1]).code == 0
    )
    assert files[0].read_bytes() == files[1].read_bytes()


def test_movement_between_two_folders(run, tmp_path):
    other = Path(shutil.copytree(run, tmp_path / "other"))
    (other / "adapt.pt").unlink()
    document = mgap("analyze-gap", other, run, *FAST, "--json").json()
    assert list(document["sha256"]) == [str(other / "warmup.pt"), str(run / "adapt.pt")]
    globbed = mgap(
        "analyze-gap", run / "warmup.pt", run / "warmup-last.pt", run / "adapt.pt", *FAST, "--json"
    )
    assert list(globbed.json()["sha256"]) == [str(run / "warmup.pt"), str(run / "adapt.pt")]


@pytest.mark.parametrize("command", ["evaluate", "analyze-gap", "adapt"])
def test_folders_without_a_finished_stage_are_refused(command, run, store, tmp_path):
    (run / "adapt.pt").rename(run / "adapt-best.pt")
    (run / "warmup.pt").unlink()
    before = listing(run)
    mgap(command, run).fails(3, str(run), "no checkpoint of a finished stage", "run the same command again")
    mgap(command, tmp_path).fails(3, "no checkpoint of a finished stage")
    mgap(command, store).fails(3, "is a store, not a checkpoint")
    assert listing(run) == before


def test_stages_of_a_users_method_are_in_the_order_of_training(run):
    for name, stage in (("zebra", "warmup"), ("ape", "adapt")):
        (run / f"{stage}.pt").rename(run / f"{name}.pt")
    (run / "metrics.jsonl").write_text(
        "".join(json.dumps({"stage": s, "epoch": 1}) + "\n" for s in ("zebra", "ape"))
    )
    (run / "notes.pt").write_text("not a checkpoint")
    assert [path.stem for path in finished_checkpoints(run)] == ["zebra", "ape"]
    assert checkpoint_in(run, Output(quiet=True), without=("ape",)).stem == "zebra"
    with pytest.raises(UnfitError, match="before zebra and ape"):
        checkpoint_in(run, Output(quiet=True), without=("zebra", "ape"))


def test_a_working_file_counts_for_no_checkpoint(tmp_path, capsys):
    first, second = ([tmp_path / run / name for name in ("adapt.pt", "adapt-last.pt")] for run in ("a", "b"))
    assert without_working_files([*first, *second], Output()) == [first[0], second[0]]
    assert without_working_files([*first, second[1]], Output()) == [first[0]], "b is not finished"
    assert "adapt is not finished there" in capsys.readouterr().err
    alone = [second[1], tmp_path / "b" / "warmup.pt"]
    assert without_working_files(alone, Output()) == alone, "asked for, and nothing to be mistaken for"


def test_a_seed_whose_stage_is_not_finished_is_not_counted(run, tmp_path):
    other = Path(shutil.copytree(run, tmp_path / "other"))
    (other / "adapt.pt").unlink()
    done = mgap("evaluate", *sorted(run.glob("*.pt")), *sorted(other.glob("*.pt")), *FAST, "--json")
    evaluated = set(done.json()["sha256"])
    assert evaluated == {str(path) for path in (run / "adapt.pt", run / "warmup.pt", other / "warmup.pt")}
    assert "adapt-last.pt: adapt is not finished there" in done.err
