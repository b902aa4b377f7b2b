"""The commands one after the other, as in scripts."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import signal
import subprocess

import pytest
import yaml
from helpers.program import TINY, TINY_DATA, listing, metrics, mgap, sets, shim, start, status

from mgap_cli.commands.prepare import with_preset
from mgap_cli.config import preset
from mgap_cli.data.sources import load_dataset
from mgap_cli.data.store import open_store
from mgap_cli.runs.checkpoint import load_checkpoint

STAGES = "warmup", "adapt"


def bash(code: str, folder, **env: str) -> subprocess.CompletedProcess[str]:
    path = f"{shim(folder)}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", code],
        cwd=folder,
        env={**os.environ, **env, "PATH": path},
        capture_output=True,
        text=True,
    )


def test_the_pipeline_in_bash(store, tmp_path):
    words = " ".join(sets(*TINY))
    line = f"""
        ckpt=$(mgap warmup "$STORE" -o run {words}) \\
          && mgap analyze-gap "$ckpt" --json | python3 -m json.tool \\
          && ckpt=$(mgap adapt "$ckpt") && mgap evaluate "$ckpt" --json
    """
    done = bash(line, tmp_path, STORE=str(store))
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    first, end = json.JSONDecoder().raw_decode(done.stdout)
    second = json.loads(done.stdout[end:])
    assert first["schema"] == "mgap.analyze-gap/1" and second["schema"] == "mgap.evaluate/3"
    assert second["evaluations"][0]["n"] == len(
        [r for r in rows(store / "clips.csv") if r["split"] == "test"]
    )
    weights = {stage: (tmp_path / "run" / f"{stage}.pt").read_bytes() for stage in STAGES}

    again = bash(line, tmp_path, STORE=str(store))
    assert again.returncode == 0 and again.stdout == done.stdout
    for stage in STAGES:
        assert f"{stage}: already finished" in again.stderr and f"{stage} epoch" not in again.stderr
        assert (tmp_path / "run" / f"{stage}.pt").read_bytes() == weights[stage]


def test_a_closed_pipe_gives_no_error(run, tmp_path):
    done = bash(f'set +o pipefail; mgap analyze-gap "{run}/warmup.pt" --json --quiet | head -1', tmp_path)
    assert done.stdout == "{\n"
    assert all(line.startswith("warning: ") for line in done.stderr.splitlines()), done.stderr  # of the fit


def rows(path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    """The document and the folder of `mgap run digits` with small settings."""
    folder = tmp_path_factory.mktemp("digits")
    config = folder / "small.yaml"
    train = {"batch_size": 256}
    config.write_text(yaml.safe_dump({"data": TINY_DATA, "train": train}))
    line = ["run", "digits", "-o", folder / "run", "--config", config, "--workers", 1]
    line += [*sets(*(w for w in TINY if "batch" not in w), "warmup.epochs=2", "adapt.epochs=2")]
    return line, mgap(*line, "--json", "-q"), folder / "run"


def test_run_digits(digits_run):
    _, done, run = digits_run
    assert done.code == 0, done.err
    document = done.json()
    assert document["schema"] == "mgap.run/2" and document["run"] == str(run)
    evaluation = document["evaluation"]
    assert [e["stage"] for e in evaluation["evaluations"]] == ["train", "warmup", "adapt"]
    assert [e["method"] for e in evaluation["evaluations"]] == ["joint-heads", "joint-heads", "adaptive"]
    assert [c["a"] for c in evaluation["comparisons"]] == ["baseline/train"] * 2
    assert all(e["n"] == 539 for e in document["evaluation"]["evaluations"])
    assert len(metrics(run / "baseline", "train")) == 4  # as many epochs as both stages
    assert any("for run/adapt" in sentence for sentence in evaluation["verdict"])
    assert not any("budgets differ" in sentence for sentence in evaluation["verdict"])
    assert set(document["gap"]["fits"]) == {"train", "val"}
    expected = {
        *("config.yaml", "env.json", "status.json", "metrics.jsonl", "warmup.pt", "warmup-last.pt"),
        *(
            "adapt.pt",
            "adapt-last.pt",
            "gap-warmup.csv",
            "gap-warmup.png",
            "gap-warmup.json",
            "evaluate.json",
            "report.html",
            "baseline",
            "store",
        ),
    }
    assert {p.name for p in run.iterdir()} == expected
    assert json.loads((run / "evaluate.json").read_text()) == document["evaluation"]
    gap = json.loads((run / "gap-warmup.json").read_text())
    assert gap.pop("sha256") and gap == document["gap"]
    assert status(run) == {"state": "done", "stage": "adapt", "epoch": 2, "step": 0}


def test_run_digits_again_returns_what_it_found(digits_run):
    line, done, run = digits_run
    again = mgap(*line, "--json")
    assert again.code == 0 and again.out == done.out
    assert all(f"{stage}: already finished" in again.err for stage in STAGES)
    tables = mgap(*line, "-q")
    assert tables.code == 0 and not tables.err.replace("warning:", "", 1).strip().startswith("error")
    assert "fused" in tables.out and "{" not in tables.out
    *_, page, heading, following = tables.out.rstrip("\n").partition("\nVerdict\n")[2].splitlines()
    assert page == f"Report: {done.json()['report']}" and (run / "report.html").is_file()
    assert heading == "Next, over several seeds:" and following == f"  {done.json()['next']}"
    paths = [e["checkpoint"] for e in done.json()["evaluation"]["evaluations"]]
    evaluated = mgap("evaluate", *paths, *sets("evaluate.bootstrap=50"), "--json")
    assert evaluated.json()["verdict"] == done.json()["evaluation"]["verdict"]
    assert set(done.json()["evaluation"]["verdict"]) <= set(mgap("report", run, "--json").json()["verdict"])


def test_run_killed_in_its_baseline_continues(store, tmp_path):
    whole, killed = tmp_path / "whole" / "run", tmp_path / "killed" / "run"
    epochs = sets(*TINY, "warmup.epochs=1", "adapt.epochs=3")
    assert mgap("run", store, "-o", whole, *epochs).code == 0
    running = start("run", store, "-o", killed, *epochs, pause=(3, 2))  # only the baseline has 4 epochs
    running.until_paused()
    assert (killed / "adapt.pt").is_file() and not (killed / "evaluate.json").exists()
    running.send(signal.SIGKILL)
    assert running.wait().code == -signal.SIGKILL
    done = mgap("run", store, "-o", killed, *epochs)
    assert (
        done.code == 0 and "adapt: already finished" in done.err and "train: continues from epoch" in done.err
    )
    for name in ("warmup.pt", "adapt.pt", "baseline/train.pt"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    evaluations = [json.loads((run / "evaluate.json").read_text()) for run in (killed, whole)]
    assert evaluations[0]["verdict"] == evaluations[1]["verdict"]


def test_run_without_its_baseline(store, tmp_path):
    epochs = sets(*TINY, "warmup.epochs=1", "adapt.epochs=1")
    done = mgap("run", store, "-o", tmp_path / "run", *epochs, "--no-baseline", "--json")
    assert done.code == 0 and not (tmp_path / "run" / "baseline").exists()
    evaluation = done.json()["evaluation"]
    assert [e["stage"] for e in evaluation["evaluations"]] == ["warmup", "adapt"]
    assert "The budgets differ: 2 epochs for run/adapt, 1 for run/warmup." in evaluation["verdict"][-1]


def test_run_on_a_store(store, tmp_path):
    protocol = dataclasses.asdict(open_store(store).data_config)
    assert protocol != preset("digits").to_dict()["data"]
    done = mgap(
        "run", store, "-o", tmp_path / "run", *sets(*TINY, "warmup.epochs=1", "adapt.epochs=1"), "--json"
    )
    assert done.code == 0, done.err
    assert done.json()["schema"] == "mgap.run/2"
    assert not (tmp_path / "run" / "store").exists()
    for stage in STAGES:  # the protocol is the store's, not the preset's
        checkpoint = load_checkpoint(tmp_path / "run" / f"{stage}.pt")
        assert dataclasses.asdict(checkpoint.config.data) == protocol


COMMANDS = {
    "warmup": ("mgap.warmup/1", ["warmup", "STORE", "-o", "RUN", *sets(*TINY)]),
    "adapt": ("mgap.adapt/1", ["adapt", "RUN/warmup.pt"]),
    "analyze-gap": ("mgap.analyze-gap/1", ["analyze-gap", "RUN/warmup.pt"]),
    "evaluate": ("mgap.evaluate/3", ["evaluate", "RUN/warmup.pt", "RUN/adapt.pt"]),
    "dry-run": ("mgap.dry-run/2", ["adapt", "RUN/warmup.pt", "--dry-run"]),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_streams(store, run, command):
    schema, words = COMMANDS[command]
    line = [word.replace("RUN", str(run)).replace("STORE", str(store)) for word in words]
    document = mgap(*line, "--json")
    assert document.code == 0 and document.json()["schema"] == schema
    plain = mgap(*line)
    assert plain.code == 0 and plain.err  # log and warnings
    if command in STAGES:
        assert plain.out == f"{run / command}.pt\n" == document.json()["path"] + "\n"
    quiet = mgap(*line, "--quiet")
    assert quiet.code == 0 and quiet.out == plain.out
    assert all(said.startswith("warning: ") for said in quiet.err.splitlines()), quiet.err


def test_prepare_prints_its_path(tmp_path):
    words = sets(*(f"data.{key}={value}" for key, value in TINY_DATA.items()))
    line = ["prepare", "digits", "-o", tmp_path / "store", "--workers", 1, *words]
    first, again = mgap(*line), mgap(*line, "--json")
    assert first.code == 0 and first.out == f"{tmp_path / 'store'}\n"
    assert again.json()["schema"] == "mgap.prepare/1" and again.json()["path"] == str(tmp_path / "store")


def test_the_default_run_folder_names_store_and_seed(store, tmp_path):
    line = ["warmup", store, *sets(*TINY), "--epochs", 1, "--seed", 7]
    done = mgap(*line, cwd=tmp_path)
    assert done.out == f"mgap-runs/{store.name}-seed7/warmup.pt\n"
    assert (tmp_path / done.out.strip()).is_file()


def test_gap_csv_is_complete_and_agrees_with_json(store, run):
    document = mgap("analyze-gap", run / "warmup.pt", "--json", "--split", "test").json()
    table = rows(run / "gap-warmup.csv")
    assert {r["id"] for r in table} == {r["id"] for r in rows(store / "clips.csv") if r["split"] == "test"}
    assert len(table) == len(document["samples"]) == document["fits"]["test"]["n"]
    truth = {r["id"]: r["label"] for r in rows(store / "clips.csv")}
    for row, sample in zip(table, document["samples"], strict=True):
        assert list(row) == list(sample)
        for key, value in sample.items():
            assert (float(row[key]) if isinstance(value, float) else row[key]) == value
        assert row["label"] == truth[row["id"]]
        assert sample["gap"] == pytest.approx(sample["p_audio"] - sample["p_visual"], abs=1e-12)
        assert (sample["component"] == "balanced") == (sample["posterior"] < 0.5)
        assert 0 <= sample["posterior"] <= 1
    posterior = [sample["posterior"] for sample in document["samples"]]
    assert posterior == sorted(posterior, reverse=True)
    summary = json.loads((run / "gap-warmup.json").read_text())
    assert list(summary.pop("sha256")) == [str(run / "warmup.pt")]
    assert summary == {name: document[name] for name in summary} and "fits" in summary


def test_analyze_gap_elsewhere(run, tmp_path):
    csv_path = tmp_path / "new" / "mine.csv"
    done = mgap(
        "analyze-gap", run / "warmup.pt", "--csv", csv_path, "--plot", "--top", 3, env={"COLUMNS": "160"}
    )
    assert done.code == 0, done.err
    assert len(rows(csv_path)) > 3 and (run / "gap-warmup.png").read_bytes().startswith(b"\x89PNG")
    signed = mgap(
        "analyze-gap", run / "warmup.pt", "--gap-kind", "signed", "--components", 3, "--json"
    ).json()
    assert signed["fits"]["train"]["kind"] == "signed"
    assert len(signed["fits"]["train"]["components"]) == 3


def test_evaluate_compares_each_with_the_first(run):
    line = ["evaluate", run / "warmup.pt", run / "adapt.pt", run / "warmup.pt", "--json"]
    document = mgap(*line).json()
    assert len(document["evaluations"]) == 3 and len(document["comparisons"]) == 2
    warm, adapted, again = document["evaluations"]
    assert warm == again and warm["stage"] == "warmup" and adapted["stage"] == "adapt"
    assert json.loads((run / "evaluate.json").read_text()) == document


def test_dry_run_changes_nothing(store, tmp_path):
    run = tmp_path / "run"
    done = mgap("warmup", store, "-o", run, *sets(*TINY), "--dry-run")
    assert done.code == 0 and not run.exists()
    said = yaml.safe_load(done.out)
    assert said["model"]["width"] == 4 and said["train"]["batch_size"] == 16
    assert (
        "# steps_per_epoch:" in done.out and "# device: cpu" in done.out and "# precision: fp32" in done.out
    )


def test_dry_run_in_a_finished_run_changes_nothing(run):
    before = listing(run)
    assert mgap("adapt", run / "warmup.pt", "--dry-run").code == 0
    assert listing(run) == before


def test_precedence(store, tmp_path):
    """preset < YAML file < environment < --set < named flag."""
    file = tmp_path / "c.yaml"
    keys = ("batch_size", "lr", "seed", "momentum")
    file.write_text("train: {batch_size: 11, lr: 0.11, seed: 11, momentum: 0.11}\n")
    env = {"MGAP_TRAIN__LR": "0.22", "MGAP_TRAIN__SEED": "22", "MGAP_TRAIN__MOMENTUM": "0.22"}
    more = [*sets("train.seed=33", "train.momentum=0.33"), "--seed", 44]

    def settings(*words: object, env: dict[str, str] | None = None) -> list[object]:
        document = mgap("warmup", store, "--dry-run", "--json", *words, env=env).json()
        assert document["config"]["train"]["schedule"] == "cosine"  # the preset's, untouched
        return [document["config"]["train"][key] for key in keys]

    assert settings() == [getattr(preset("digits").train, key) for key in keys]
    assert settings("--config", file) == [11, 0.11, 11, 0.11]
    assert settings("--config", file, env=env) == [11, 0.22, 22, 0.22]
    assert settings("--config", file, *more, env=env) == [11, 0.22, 44, 0.33]


def test_config_yaml_of_a_run_gives_the_same_run(run, tmp_path, store):
    """The folder's config.yaml, that of the adaptive stage, also has the settings of the warm-up."""
    done = mgap("warmup", store, "-o", tmp_path / "again", "--config", run / "config.yaml")
    assert done.code == 0, done.err
    assert (tmp_path / "again/warmup.pt").read_bytes() == (run / "warmup.pt").read_bytes()


class TestAFolderThatHoldsARun:
    def test_another_configuration_is_refused_with_the_keys(self, store, run):
        before = listing(run)
        line = ["warmup", store, "-o", run, *sets(*TINY)]
        mgap(*line, "--lr", 0.5, "--fusion", "sum").fails(2, "train.lr", "0.5", "model.fusion", "--force")
        mgap("adapt", run / "warmup.pt", "--alpha", 2).fails(2, "adaptive.alpha", "2.0", "--force")
        assert listing(run) == before

    def test_another_store_is_refused(self, other_store, run):
        before = listing(run)
        mgap("warmup", other_store, "-o", run, *sets(*TINY)).fails(2, "another store", "--force")
        assert listing(run) == before

    def test_force_trains_again(self, store, run):
        before = (run / "warmup.pt").read_bytes()
        done = mgap("warmup", store, "-o", run, *sets(*TINY), "--seed", 1, "--force")
        assert done.code == 0 and "warmup epoch 1/3" in done.err
        assert (run / "warmup.pt").read_bytes() != before
        # What depends on the old warm-up does not count as finished.
        mgap("adapt", run / "warmup.pt").fails(2, "another checkpoint of an earlier stage", "--force")
        assert mgap("adapt", run / "warmup.pt", "--force").code == 0

    def test_where_it_computes_may_change(self, store, run):
        line = ["warmup", store, "-o", run, *sets(*TINY), "--device", "cpu", "--precision", "fp32"]
        assert "already finished" in mgap(*line).err


def test_run_takes_the_preset_of_another_protocol(tmp_path):
    line = ["run", "cremad", "--dry-run", "--json"]
    done = mgap(*line, "--preset", "cremad-fbank", cwd=tmp_path)
    document = json.loads(done.out)
    assert document["config"] == json.loads(json.dumps(preset("cremad-fbank").to_dict()))
    assert document["config"]["data"]["audio"] == "fbank"
    assert document["run"] == "mgap-runs/cremad-fbank-seed0"
    assert json.loads(mgap(*line, cwd=tmp_path).out)["run"] == "mgap-runs/cremad-seed0"
    mgap(*line, "--preset", "cremad-fbnk", cwd=tmp_path).fails(2, "cremad-fbnk", "Did you mean cremad-fbank?")


def test_a_store_records_the_preset_of_another_protocol_only():
    loaded = load_dataset("digits", None, preset("digits").data)
    assert with_preset(loaded, None, "digits") is with_preset(loaded, "digits", "digits") is loaded
    assert with_preset(loaded, "other", "digits").options == {**loaded.options, "preset": "other"}
