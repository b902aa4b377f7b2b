"""The Slurm jobs of a comparison: the record of the submitted cells, and their states from squeue.

RESULTS/slurm/
  jobs.json               the cell of each job that had not ended when the file was written
  JOB_submission.sh, JOB_TASK_submitted.pkl, JOB_TASK_0_log.out
                          files of submitit: the script, the cell and the output of each job
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from mgap_cli.comparison.plan import Cell
from mgap_cli.files import MALFORMED, damaged, read_json, write_json

AtWork = Literal["queued", "running"]
SCHEMA = "mgap.slurm-jobs/1"
_QUEUED = (
    "PENDING",
    "CONFIGURING",
    "REQUEUED",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "RESV_DEL_HOLD",
    "SPECIAL_EXIT",
)
_RUNNING = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
_SQUEUE_SECONDS = 60  # if squeue takes longer than this, it counts as not answering


@dataclass(frozen=True)
class JobStates:
    """The jobs of a comparison that have not ended.

    cells: the cell of each job. at_work: the state of each cell. asked: whether squeue
    answered. If not, every job of the record counts as queued.
    """

    cells: Mapping[str, Cell]
    at_work: Mapping[Cell, AtWork]
    asked: bool = True


def folder_of(results: Path) -> Path:
    """Return the folder of all files that belong to Slurm jobs."""
    return results / "slurm"


def record_of(results: Path) -> Path:
    return folder_of(results) / "jobs.json"


def write_jobs(results: Path, cells: Mapping[str, Cell]) -> None:
    """Write the cell of each job; the folder must exist."""
    write_json(record_of(results), {"schema": SCHEMA, "jobs": {job: asdict(c) for job, c in cells.items()}})


def read_jobs(results: Path) -> dict[str, Cell]:
    """Return the cell of each recorded job; none before the first. UnfitError for a damaged record."""
    document = read_json(record_of(results))
    if document is None:
        return {}
    try:
        if document["schema"] != SCHEMA:
            raise ValueError("another version of mgap wrote it")
        return {str(job): Cell(**cell) for job, cell in document["jobs"].items()}
    except MALFORMED as error:
        raise damaged(record_of(results), error) from error


def job_states(results: Path) -> JobStates:
    """Return the recorded jobs that are queued or running, by squeue."""
    recorded = read_jobs(results)
    if not recorded:
        return JobStates({}, {})
    states = _ask_squeue(recorded)
    if states is None:
        return JobStates(recorded, dict.fromkeys(recorded.values(), "queued"), asked=False)
    return JobStates(
        {job: cell for job, cell in recorded.items() if job in states},
        {recorded[job]: state for job, state in states.items() if job in recorded},
    )


def _ask_squeue(jobs: Iterable[str]) -> dict[str, AtWork] | None:
    """Return the state of each job that has not ended, by JOB or JOB_TASK; None if squeue does not answer.

    Some minutes after a job has ended, squeue reports that its number is invalid.
    """
    numbers = ",".join(sorted({job.partition("_")[0] for job in jobs}))
    command = ["squeue", "--noheader", "--array", "--format=%i|%T", f"--jobs={numbers}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SQUEUE_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0 and "Invalid job id" not in done.stderr:
        return None
    states: dict[str, AtWork] = {}
    for line in done.stdout.splitlines():
        job, _, state = line.strip().partition("|")
        if state in _QUEUED:
            states[job] = "queued"
        elif state in _RUNNING:
            states[job] = "running"
    return states
