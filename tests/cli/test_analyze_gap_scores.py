"""`analyze-gap` on files of scores: tables, JSON, lists, plots, and unusual input."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.program import mgap, sets
from rich.cells import cell_len

FAST = sets("analysis.resamples=49", "gap.n_init=1")


@pytest.fixture(scope="module")
def scores(tmp_path_factory) -> Path:
    g = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("scores") / "mine.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "label", "p_audio", "p_visual", "p_text", "sex", "duration", "split", "noisy"])
        for i in range(400):
            audio = g.beta(8, 2)
            noisy = g.random() < 0.4
            visual = g.beta(1, 8) if noisy else np.clip(audio + g.normal(0, 0.05), 0, 1)
            writer.writerow(
                [f"[b]clip{i:03}", f"class {i % 3}", audio, visual, g.random(), "FM"[i % 2],
                 round(g.gamma(4), 3), "val" if i % 4 == 0 else "train", "visual" if noisy else ""]
            )  # fmt: skip
    return path


def two(path: Path, *more: object, **kwargs):
    return mgap("analyze-gap", path, "--modalities", "audio,visual", *FAST, *more, **kwargs)


def test_document(scores, tmp_path):
    done = two(scores, "--json", "--top", 5, "--by", "sex", "--where", "sex=F", "--csv", tmp_path / "all.csv")
    document = done.json()
    assert document["schema"] == "mgap.analyze-gap/1" and document["scores"] == str(scores)
    fit = document["fits"]["audio-visual"]
    assert fit["n"] == 400 and fit["bimodality"]["verdict"] == "several populations"
    assert len(document["samples"]) == 5
    by = {b["column"]: b["groups"] for b in document["by"]["audio-visual"]}
    assert [g["value"] for g in by["sex"]] == ["F"] and set(by) == {"class", "duration", "sex"}
    with (tmp_path / "all.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 400
    imbalanced = sum(float(row["posterior"]) >= 0.5 for row in rows)
    assert imbalanced == round(400 * (1 - fit["balanced_share"]))
    # What was written can be read again, and says the same.
    again = two(tmp_path / "all.csv", "--json").json()["fits"]["audio-visual"]
    assert again["balanced_share"] == pytest.approx(fit["balanced_share"])


@pytest.mark.parametrize("width", [80, 120])
def test_tables_keep_their_width(scores, width):
    done = mgap("analyze-gap", scores, *FAST, "--by", "sex", "--top", 3, env={"COLUMNS": str(width)})
    assert done.code == 0, done.err
    assert max(map(cell_len, done.out.splitlines())) <= width
    for pair in ("audio-visual", "audio-text", "visual-text"):
        assert f"Verdict, {pair}, n = 400" in done.out
        assert f"Imbalanced by sex, {pair}, n = 400" in done.out
    assert "two populations: " in done.out and "Hartigan's dip" in done.out


def test_the_verdict_and_its_warnings_are_the_last_lines(tmp_path, scores, run):
    far = table(tmp_path / "far.csv", [0.5 + 0.01 * (i % 5) for i in range(60)] + [0.95] * 40)
    done = mgap("analyze-gap", far, *FAST, env={"COLUMNS": "80"})
    first, last = (
        " ".join(part.split()) for part in (done.out[:200], done.out[done.out.rindex("Verdict") :])
    )
    assert last.startswith("Verdict, n = 100: ") and last[:60] == first[:60]
    assert "Warning: the balanced component's mean gap is 0.52, far from 0" in last
    several = mgap("analyze-gap", scores, *FAST).out
    last = several[several.rindex("Verdicts") :]
    assert last.count("audio-visual") == 2 and "visual-text: " in last
    trained = mgap("analyze-gap", run / "warmup.pt", *FAST, env={"COLUMNS": "80"}).out
    last = trained[trained.rindex("Verdict, train") :].splitlines()
    assert [line.split()[0] for line in last if line.startswith(("train", "val"))] == ["train", "val"]
    assert max(map(cell_len, trained.splitlines())) <= 80


def test_lists_of_both_components_obey_the_conditions(scores, tmp_path):
    lists = {}
    for group in ("balanced", "imbalanced"):
        path = tmp_path / f"{group}.csv"
        done = two(scores, "--export", path, "--exported", group, "--where", "sex=M", "--json")
        rows = list(csv.DictReader(path.open()))
        lists[group] = {row["id"] for row in rows}
        assert all((float(row["posterior"]) >= 0.5) == (group == "imbalanced") for row in rows)
        assert done.json()["exported"] == {"path": str(path), "which": group, "samples": len(rows)}
    assert not lists["balanced"] & lists["imbalanced"]
    assert len(lists["balanced"] | lists["imbalanced"]) == 200


def test_known_truth_is_compared_with_what_was_found(scores, run):
    document = two(scores, "--json", "--truth", "noisy").json()
    identification = document["identification"]["audio-visual"]
    assert identification["n"] == 400 and 120 < identification["imbalanced"] < 200
    assert identification["of_these_right"] > 0.9 * identification["called_imbalanced"]
    assert [d["name"] for d in identification["detectors"]] == ["posterior", "|gap|"]
    two(scores, "--truth", "size").fails(2, "no column 'size'")
    # The store of digits knows which samples are degraded: no option is needed.
    done = mgap("analyze-gap", run / "warmup.pt", *FAST, env={"COLUMNS": "80"})
    assert "Identification, train, truth: degraded, n = " in done.out and "fused loss" in done.out
    done = mgap("analyze-gap", run / "warmup.pt", *FAST, "--where", "degraded=none")
    assert done.code == 0 and "Identification" not in done.out and "nothing to identify" in done.err


def test_splits_and_plots(scores, tmp_path):
    copy = tmp_path / "mine.csv"
    copy.write_bytes(scores.read_bytes())
    document = two(copy, "--split", "val", "--plot", "--json").json()
    assert document["fits"]["audio-visual"]["n"] == 100
    assert (tmp_path / "mine-gap.png").read_bytes().startswith(b"\x89PNG")
    two(copy, "--split", "dev").fails(2, "dev", "train, val")


def table(path: Path, gaps: list[float], labels: str = "ab") -> Path:
    lines = [f"s{i},{labels[i % len(labels)]},{max(g, 0)},{max(-g, 0)}" for i, g in enumerate(gaps)]
    path.write_text("\n".join(["id,label,p_audio,p_visual", *lines]) + "\n")
    return path


def test_unusual_tables_have_defined_answers(tmp_path):
    ten = table(tmp_path / "ten.csv", [0.1, 0.12, 0.09, 0.11, 0.08, 0.8, 0.82, 0.79, 0.81, 0.83])
    assert "two populations: 50.0% balanced" in mgap("analyze-gap", ten, *FAST).out
    nine = mgap("analyze-gap", table(tmp_path / "nine.csv", [0.1 * i for i in range(9)]), *FAST)
    assert nine.code == 0 and "only 9 samples" in nine.err and "too few samples for a verdict" in nine.out
    constant = mgap("analyze-gap", table(tmp_path / "constant.csv", [0.25] * 30), *FAST)
    assert constant.code == 0 and "every gap is +0.250" in constant.out and "1 distinct" in constant.err
    one = mgap("analyze-gap", table(tmp_path / "one.csv", [0.1 * (i % 8) for i in range(40)], "a"), *FAST)
    assert one.code == 0 and "every sample is of class 'a'" in one.err


def test_rounded_scores_are_one_population_and_a_warning_says_so(tmp_path):
    """One population, written with two decimals, once got "two populations" (dip test p = 0.005)."""
    gaps = np.round(np.random.default_rng(0).beta(5, 3, 5000), 2)
    done = mgap("analyze-gap", table(tmp_path / "rounded.csv", gaps.tolist()), *FAST, "--json")
    tested = done.json()["fits"]["audio-visual"]["bimodality"]
    assert tested["verdict"] != "several populations" and tested["tests"]["dip"]["p_value"] > 0.1
    assert tested["rounded_to"] == pytest.approx(0.01)
    assert "rounded to steps of 0.01" in done.err


def test_a_minority_is_not_denied(tmp_path):
    """A group of ten percent of the samples, 3 standard deviations away, has no peak of its own."""
    g = np.random.default_rng(0)
    gaps = np.concatenate([g.normal(0.2, 0.08, 1800), g.normal(0.44, 0.08, 200)]).clip(-1, 1)
    done = mgap("analyze-gap", table(tmp_path / "minority.csv", gaps.tolist()), *FAST, "--json")
    tested = done.json()["fits"]["audio-visual"]["bimodality"]
    assert tested["verdict"] == "no valley" and "a minority" in tested["sentence"]
    assert tested["tests"]["dip"]["p_value"] > 0.05 > tested["tests"]["log_concave"]["p_value"]


def test_tables_have_the_confidence_that_was_asked_for(scores):
    done = two(scores, "--set", "analysis.confidence=0.8", env={"COLUMNS": "100"})
    assert "80 %" in done.out and "95 %" not in done.out


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--by", "size"], 2, ["no column 'size'", "duration"]),
        (["--where", "sex=Q"], 2, ["sex=Q", "'F', 'M'"]),
        (["--modalities", "audio,smell"], 3, ["p_smell", "p_audio"]),
        (["--store", "x"], 2, ["without a store"]),
        (["--human", "none.csv"], 2, ["none.csv", "no such file"]),
        (["--export", "/dev/null/x.csv"], 1, ["/dev/null/x.csv"]),
    ],
)
def test_wrong_use_is_reported(scores, more, code, words):
    mgap("analyze-gap", scores, *FAST, *more).fails(code, *words)


def test_a_file_of_scores_does_not_import_torch(scores):
    """Importing it would take longer, and more memory, than a million scores."""
    program = (
        "import sys; from mgap_cli.__main__ import main\n"
        "try: main()\n"
        "finally: print({'torch', 'matplotlib'} & set(sys.modules), file=sys.stderr)"
    )
    line = [sys.executable, "-c", program, "analyze-gap", str(scores), *FAST]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "set()", done.stderr


def test_a_list_decides_what_adapt_trains_on(run, tmp_path):
    path = tmp_path / "balanced.csv"
    done = mgap("analyze-gap", run / "warmup.pt", "--export", path, *FAST)
    assert done.code == 0, done.err
    ids = [row["id"] for row in csv.DictReader(path.open())]
    done = mgap("adapt", run / "warmup.pt", "--only", path, "-o", tmp_path / "pure")
    assert done.code == 0, done.err
    assert f"training on the {len(ids)} listed of " in done.err
    again = mgap("adapt", run / "warmup.pt", "--only", path, "-o", tmp_path / "pure")
    assert again.code == 0 and "already finished" in again.err
    path.write_text("\n".join(["id", *ids[1:]]) + "\n")
    args = ("adapt", run / "warmup.pt", "-o", tmp_path / "pure", "--only")
    mgap(*args, path).fails(2, "another checkpoint of an earlier stage, or another list of samples")
    path.write_text("\n".join(["id", *ids, "unknown"]) + "\n")
    mgap(*args, path).fails(3, "1 of", "not in the store", "'unknown'")
    mgap(*args, tmp_path / "none.csv").fails(2, "none.csv", "no such file")
    mgap(*args, "balancd").fails(2, "Did you mean balanced?")
    done = mgap("analyze-gap", run / "warmup.pt", "--split", "val", "--export", path, *FAST)
    mgap(*args, path).fails(3, "not in its training split")


def test_a_split_that_calls_everyone_imbalanced_is_warned_of(tmp_path):
    g = np.random.default_rng(1)
    gap = np.clip(np.concatenate([g.normal(0, 0.3, 100), g.normal(0.25, 0.12, 400)]), -1, 1)
    path = tmp_path / "overlap.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "label", "p_audio", "p_visual"])
        writer.writerows([i, "a", max(value, 0), max(-value, 0)] for i, value in enumerate(gap))
    done = mgap("analyze-gap", path, "--gap-kind", "signed", *FAST, *sets("gap.components=2"))
    assert done.code == 0
    assert "no sample is balanced: another component is likelier" in " ".join(done.err.split())
