"""`mgap compare --slurm` submits cells to Slurm. Small programs replace Slurm's commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.program import HANG, ROOT, TINY, Done, mgap, sets
from test_compare import values

from mgap_cli.comparison.cell_result import read_result
from mgap_cli.comparison.plan import Cell
from mgap_cli.comparison.slurm_jobs import job_states, write_jobs
from mgap_cli.comparison.slurm_request import minutes_of
from mgap_cli.config import Config, resolve
from mgap_cli.errors import UsageError
from mgap_cli.methods import load_method
from mgap_cli.workflow.cell import CellJob
from mgap_cli.workflow.slurm import run_in_job

SETTINGS = sets(*TINY, "train.epochs=2", "warmup.epochs=1")
EPOCHS = 12  # epochs of the cell that is stopped: enough to stop it before the last one
STAND_INS = {
    # Keeps the script and puts every task of its array into the queue.
    "sbatch": r"""#!/bin/bash
[ -e "$SLURM_TEST/refuse" ] && { echo "sbatch: error: invalid partition specified" >&2; exit 1; }
number=$(( $(cat "$SLURM_TEST/last") + 1 ))
echo "$number" > "$SLURM_TEST/last"
cp "$1" "$SLURM_TEST/$number.sh"
last=$(grep -oP -- '--array=.?0-\K[0-9]+' "$1")
if [ -z "$last" ]; then echo "$number|PENDING" >> "$SLURM_TEST/queue"; fi
[ -n "$last" ] && for task in $(seq 0 "$last"); do echo "${number}_$task|PENDING" >> "$SLURM_TEST/queue"; done
echo "Submitted batch job $number"
""",
    "squeue": r"""#!/bin/bash
[ -e "$SLURM_TEST/deaf" ] && { echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1; }
[ -s "$SLURM_TEST/queue" ] || { echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1; }
cat "$SLURM_TEST/queue"
""",
    # Runs the step in its own process group: Slurm signals the whole step, but not the script.
    "srun": """#!/bin/bash
while [[ "$1" == -* ]]; do [ "$1" = --output ] && shift; shift; done
echo $$ > "$SLURM_TEST/step"
exec setsid "$@"
""",
    "scontrol": """#!/bin/bash
[ "$1" = requeue ] && echo "$2" >> "$SLURM_TEST/requeued"
""",
}


class Cluster:
    """Slurm's commands on PATH, and their state."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        (folder / "bin").mkdir()
        self.state.mkdir()
        (self.state / "last").write_text("100\n")
        (self.state / "queue").touch()
        for name, text in STAND_INS.items():
            path = folder / "bin" / name
            path.write_text(text)
            path.chmod(0o755)
        self.env = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "SLURM_TEST": str(self.state),
            "PYTHONPATH": str(ROOT),
        }

    def mgap(self, *words: object) -> Done:
        return mgap(*words, env=self.env)

    def script(self, number: int) -> list[str]:
        """Return the options with which a job was submitted."""
        lines = (self.state / f"{number}.sh").read_text().splitlines()
        return [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")]

    def queue(self) -> list[str]:
        return (self.state / "queue").read_text().splitlines()

    def say(self, *lines: str) -> None:
        """Make squeue print these lines."""
        (self.state / "queue").write_text("".join(f"{line}\n" for line in lines))

    def start(self, number: int, task: int | None) -> subprocess.Popen[bytes]:
        """Start one task of a job, as Slurm does."""
        names = {"SLURM_JOB_ID": str(1000 + (task or 0)), "SLURM_PROCID": "0"}
        if task is None:
            names["SLURM_JOB_ID"] = str(number)
        else:
            names |= {"SLURM_ARRAY_JOB_ID": str(number), "SLURM_ARRAY_TASK_ID": str(task)}
        return subprocess.Popen(
            ["bash", self.state / f"{number}.sh"],
            env={**os.environ, **self.env, **names},
            start_new_session=True,
        )


@pytest.fixture
def cluster(tmp_path) -> Cluster:
    pytest.importorskip("submitit", reason="submitit is not installed (the extra `slurm`)")
    return Cluster(tmp_path)


def line(store: Path, results: Path, *more: object) -> list[object]:
    words = ["compare", store, "--methods", "joint,joint-heads", "--seeds", 2, "-o", results, *SETTINGS]
    return [*words, "--slurm", *more]


def states(results: Path, cluster: Cluster) -> list[str]:
    document = cluster.mgap("compare", results, "--status", "--json").json()
    return [cell["state"] for cell in document["cells"]]


def test_the_cells_are_one_array_with_what_was_asked(cluster, store, tmp_path):
    results = tmp_path / "results"
    done = cluster.mgap(
        *line(store, results, "--parallel", 3, "--time-limit", "1-02:30:00", "--partition", "long"),
        *("--account", "lab", "--sbatch", "gres=gpu:1", "--sbatch", "exclusive", "--lr", "0.01"),
    )
    assert done.code == 0, done.err
    assert done.out.splitlines() == [
        "job 101: 4 cells",
        f"To see the state of the jobs: mgap compare {results} --status",
        f"To see the table: mgap compare {results}",
    ]
    asked = cluster.script(101)
    for option in (
        *("--array=0-3%3", "--time=1590", "--partition=long", "--account=lab", "--gres=gpu:1"),
        *("--exclusive", "--requeue", "--signal=USR1@120"),
    ):
        assert option in asked, asked
    assert not any(option.startswith("--wckey") for option in asked)
    assert states(results, cluster) == ["queued"] * 4


def test_submitting_again_submits_nothing_twice(cluster, store, tmp_path):
    results = tmp_path / "results"
    assert cluster.mgap(*line(store, results)).code == 0
    cluster.say("101_0|RUNNING", "101_1|PENDING", "101_2|COMPLETING")  # the fourth has ended without a result
    assert states(results, cluster) == ["running", "queued", "running", "missing"]
    again = cluster.mgap(*line(store, results, "--json"))
    assert again.code == 0, again.err
    assert "already queued or running: 3 cells" in again.err
    assert again.json()["job"] == "102" and len(again.json()["cells"]) == 1
    assert not any(option.startswith("--array") for option in cluster.script(102))
    cluster.say("101_0|RUNNING", "101_1|PENDING", "101_2|RUNNING", "102|PENDING")
    third = cluster.mgap(*line(store, results))
    assert third.code == 0 and "no cell is left to submit" in third.out, third.err
    assert not (cluster.state / "103.sh").exists()
    extended = cluster.mgap(*line(store, results), "--seeds", 3, "--json")
    assert [cell["seed"] for cell in extended.json()["cells"]] == [2, 2]


def test_trials_of_tuning_must_be_finished_first(cluster, store, tmp_path):
    pytest.importorskip("optuna", reason="optuna is not installed (the extra `tune`)")
    done = cluster.mgap(*line(store, tmp_path / "results", "--tune", 3))
    done.fails(2, "6 trials of --tune are not finished", "without --slurm first")
    assert not (cluster.state / "101.sh").exists()


def test_if_squeue_does_not_answer_all_jobs_count_as_queued(cluster, store, tmp_path):
    results = tmp_path / "results"
    assert cluster.mgap(*line(store, results)).code == 0
    (cluster.state / "deaf").touch()
    again = cluster.mgap(*line(store, results))
    assert again.code == 0 and "no cell is left to submit" in again.out
    assert "squeue does not answer" in again.err and "jobs.json" in again.err


def test_local_processes_leave_the_cells_of_jobs_alone(cluster, store, tmp_path):
    results = tmp_path / "results"
    assert cluster.mgap(*line(store, results)).code == 0
    cluster.say("101_0|PENDING", "101_1|PENDING", "101_2|RUNNING")
    local = [word for word in line(store, results) if word != "--slurm"]
    done = cluster.mgap(*local)
    assert done.code == 0, done.err
    assert "already queued or running: 3 cells" in done.err and "1 cell to run" in done.err
    assert states(results, cluster) == ["queued", "queued", "running", "done"]


def test_a_job_that_its_time_limit_stops_is_queued_again_and_ends_as_a_local_cell(cluster, store, tmp_path):
    results, local = tmp_path / "results", tmp_path / "local"
    words = ["compare", store, "--methods", "joint", *SETTINGS, "--epochs", EPOCHS]
    assert cluster.mgap(*words, "--seeds", 2, "-o", results, "--slurm").code == 0
    run = results / "cells" / store.name / "joint" / "seed0"
    job = cluster.start(101, 0)
    while not (run / "metrics.jsonl").exists():
        assert job.poll() is None
        time.sleep(0.01)
    os.killpg(int((cluster.state / "step").read_text()), signal.SIGUSR1)
    assert job.wait(HANG) == 75
    assert (cluster.state / "requeued").read_text() == "1000\n"
    assert len((run / "metrics.jsonl").read_text().splitlines()) < EPOCHS
    assert states(results, cluster) == ["queued", "queued"]
    jobs = [cluster.start(101, task) for task in (0, 1)]
    assert [job.wait(HANG) for job in jobs] == [0, 0]
    assert states(results, cluster) == ["done", "done"]
    epochs = [json.loads(entry)["epoch"] for entry in (run / "metrics.jsonl").read_text().splitlines()]
    assert epochs == list(range(1, EPOCHS + 1))
    assert mgap(*words, "--seeds", 1, "-o", local).code == 0
    cell = (store.name, "joint", "0")
    assert values(results)[cell] == values(local)[cell]


def test_a_job_of_submitit_alone_runs_and_records_a_cell(store, tmp_path, monkeypatch, capfd):
    """submitit's local executor runs the pickled cell in its own process, without Slurm."""
    submitit = pytest.importorskip("submitit", reason="submitit is not installed (the extra `slurm`)")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    load_method("joint")
    config = resolve(Config(), sets=[*TINY, "train.epochs=1"]).with_methods(["joint"]).to_dict()
    good = CellJob(Cell("s", "joint", 0), store, "joint", config, tmp_path)
    bad = CellJob(Cell("s", "joint", 1), tmp_path / "none", "joint", config, tmp_path)
    executor = submitit.LocalExecutor(tmp_path / "slurm")
    executor.update_parameters(timeout_min=10)
    jobs = executor.map_array(run_in_job, [good, bad])
    assert jobs[0].result() is None
    assert read_result(good.cell, tmp_path).state == "done"
    while not jobs[1].done():
        time.sleep(0.05)
    failed = read_result(bad.cell, tmp_path)
    assert failed.state == "failed" and "none" in failed.error
    run_in_job(good)
    assert "already done" in capfd.readouterr().err


def test_jobs_that_squeue_does_not_know_have_ended(cluster, tmp_path, monkeypatch):
    for name, value in cluster.env.items():
        monkeypatch.setenv(name, value)
    assert job_states(tmp_path).cells == {}
    cells = {f"7_{seed}": Cell("s", "joint", seed) for seed in range(4)}
    (tmp_path / "slurm").mkdir()
    write_jobs(tmp_path, cells)
    assert job_states(tmp_path).cells == {}  # squeue no longer knows its number
    cluster.say("7_0|COMPLETED", "7_1|OUT_OF_MEMORY", "7_2|REQUEUE_HOLD", "7_3|COMPLETING", "8_0|RUNNING")
    jobs = job_states(tmp_path)
    assert jobs.at_work == {cells["7_2"]: "queued", cells["7_3"]: "running"}
    assert jobs.cells == {"7_2": cells["7_2"], "7_3": cells["7_3"]} and jobs.asked


def test_what_sbatch_refuses_is_one_message(cluster, store, tmp_path):
    (cluster.state / "refuse").touch()
    results = tmp_path / "results"
    cluster.mgap(*line(store, results, "--partition", "nowhere")).fails(1, "invalid partition", "--partition")
    assert states(results, cluster) == ["missing"] * 4


def test_slurm_needs_submitit_and_slurm(cluster, store, tmp_path):
    results = tmp_path / "results"
    (tmp_path / "absent" / "submitit").mkdir(parents=True)
    (tmp_path / "absent" / "submitit" / "__init__.py").write_text("raise ImportError('no submitit')")
    words = [sys.executable, "-m", "mgap_cli", *map(str, line(store, results))]
    path = f"{tmp_path / 'absent'}:{ROOT}"
    done = subprocess.run(
        words, env={**os.environ, **cluster.env, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 2 and "pip install 'mgap[slurm]'" in done.stderr, done.stderr
    mgap(*line(store, results), env={"PATH": str(tmp_path)}).fails(2, "no command sbatch")
    assert not results.exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--parallel", 2], "--parallel"),
        (["--time-limit", "60"], "--time-limit"),
        (["--partition", "p"], "--partition"),
        (["--account", "a"], "--account"),
        (["--sbatch", "mem=4G"], "--sbatch"),
        (["--slurm", "--jobs", 2], "--jobs"),
        (["--slurm", "--per-gpu", 2], "--per-gpu"),
        (["--slurm", "--time-limit", "soon"], "--time-limit soon"),
        (["--slurm", "--time-limit", "2"], "5 minutes"),
        (["--slurm", "--sbatch", "array=0-9"], "--sbatch array=0-9"),
    ],
)
def test_options_that_do_not_fit_are_refused(store, tmp_path, words, expected):
    done = mgap("compare", store, "--methods", "joint", "-o", tmp_path / "results", *words)
    done.fails(2, expected)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("90:01", 91), ("04:00:00", 240), ("2-3", 3060), ("1-00:30", 1470), ("1-02:30:01", 1591)],
)
def test_a_time_limit_has_the_forms_of_slurm(text, minutes):
    assert minutes_of(text) == minutes


@pytest.mark.parametrize("text", ["", "1:2:3:4", "1h", "-5", "1-", "0"])
def test_other_time_limits_are_refused(text):
    with pytest.raises(UsageError, match="--time-limit"):
        minutes_of(text)
