"""A command writes its files beside its input, or all of them into the folder of `-o`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.program import listing, mgap, sets

FAST = sets("analysis.resamples=19", "gap.n_init=1", "evaluate.bootstrap=50", "evaluate.snr_db=5")
FAST += sets("evaluate.frame_noise=0.1", "evaluate.occlusion=0.5")
SCORES = "id,label,p_audio,p_visual\n" + "".join(f"{i},x,0.{i % 9 + 1},0.{i % 7 + 1}\n" for i in range(60))


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (
            ["evaluate", "{run}/warmup.pt", "{run}/adapt.pt", "--plot", "--robustness"],
            [
                "evaluate-adapt-calibration.png",
                "evaluate-adapt-confusion.png",
                "evaluate-robustness.png",
                "evaluate-warmup-calibration.png",
                "evaluate-warmup-confusion.png",
                "evaluate.json",
            ],
        ),
        (["analyze-gap", "{run}", "--plot"], ["gap-adapt.csv", "gap-adapt.json", "gap-adapt.png"]),
        (["analyze-gap", "{run}", "--history", "--plot"], ["history.png"]),
        (
            ["analyze-gap", "{run}/warmup.pt", "{run}/adapt.pt", "--plot"],
            ["movement.csv", "movement.json", "movement.png"],
        ),
    ],
    ids=["evaluate", "analyze-gap", "history", "movement"],
)
def test_everything_goes_into_the_folder(run, tmp_path, words, written):
    before = listing(run)
    line = [word.format(run=run) for word in words]
    done = mgap(*line, *FAST, "-o", tmp_path / "out", "-q")
    assert done.code == 0, done.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == written
    assert listing(run) == before


def test_checkpoints_of_one_name_keep_their_plots_apart(run, tmp_path):
    other = Path(shutil.copytree(run, tmp_path / "other"))
    done = mgap("evaluate", run, other, "--plot", "-o", tmp_path / "out", *FAST)
    assert done.code == 0, done.err
    names = {path.name for path in (tmp_path / "out").glob("*-confusion.png")}
    assert names == {"evaluate-run-adapt-confusion.png", "evaluate-other-adapt-confusion.png"}


def test_the_figure_of_scores_goes_beside_them_or_into_the_folder(tmp_path):
    scores = tmp_path / "data" / "scores.csv"
    scores.parent.mkdir()
    scores.write_text(SCORES)
    assert mgap("analyze-gap", scores, "--plot", *FAST, "-o", tmp_path / "out").code == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scores-gap.png"]
    assert [path.name for path in scores.parent.iterdir()] == ["scores.csv"]
    assert mgap("analyze-gap", scores, "--plot", *FAST, cwd=tmp_path).code == 0
    assert (scores.parent / "scores-gap.png").exists()


def test_a_file_cannot_be_the_folder(run, tmp_path):
    (tmp_path / "file").touch()
    for line in (["evaluate", run], ["analyze-gap", run]):
        mgap(*line, *FAST, "-o", tmp_path / "file").fails(1, "cannot be written")


@pytest.mark.parametrize("command", ["evaluate", "analyze-gap"])
def test_nothing_is_added_to_a_store(run, store, command):
    before = listing(store)
    mgap(command, run, *FAST, "-o", store).fails(2, str(store), "store")
    assert listing(store) == before
