"""`mgap compare --slurm`: submit the cells that are not finished as one job array, through submitit.

The command holds the lock of the results folder only while it submits. A job holds the lock of its cell's run
folder, as a local process does, and writes only the files of this cell.

Slurm sends USR1 to a job before its time limit. The cell then saves its state, and the job puts itself into
the queue again and exits with 75; its next start continues the cell. At SIGTERM the cell also saves its
state, but the job does not queue itself: after a preemption Slurm does this, and after `scancel` the job must
not start again.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

from mgap_cli.comparison.cell_result import read_result
from mgap_cli.comparison.process_pool import StoppedBySignal
from mgap_cli.comparison.slurm_jobs import folder_of, job_states, write_jobs
from mgap_cli.comparison.slurm_request import WARNING_SECONDS, SlurmRequest
from mgap_cli.errors import ExitCode, MgapError, UsageError, reason_of
from mgap_cli.output import Output, counted, say
from mgap_cli.report.schemas import schema
from mgap_cli.runs.lock import is_locked, run_lock
from mgap_cli.workflow.cell import CellJob
from mgap_cli.workflow.comparison import (
    Comparison,
    cell_workers,
    keep_plan,
    require_results_folder,
    run_cells,
    without_those_at_work,
)
from mgap_cli.workflow.tuning import require_finished_trials, with_chosen_values


def submit_comparison(
    comparison: Comparison,
    results: Path,
    request: SlurmRequest,
    sink: Output,
    *,
    retry_failed: bool = False,
) -> tuple[dict[str, Any], str]:
    """Submit every cell that is neither finished nor in a job yet; return a document and the text to print.

    Raises UsageError if submitit or Slurm's commands are missing, and for a folder that `execute_comparison`
    refuses. Raises MgapError if sbatch refuses the jobs.
    """
    submitit = _submitit()
    for command in ("sbatch", "srun"):
        if shutil.which(command) is None:
            raise UsageError(
                f"--slurm: this machine has no command {command}.", "Run it on a login node of the cluster."
            )
    require_results_folder(results)
    with run_lock(results, sink):
        keep_plan(comparison, results, sink)
        require_finished_trials(comparison, results)
        comparison = with_chosen_values(comparison, results)
        states = job_states(results)
        waiting = without_those_at_work(comparison.unfinished(results, retry_failed), states, results, sink)
        jobs: list[str] = []
        if waiting:
            folder = folder_of(results.resolve())
            folder.mkdir(parents=True, exist_ok=True)
            executor = submitit.SlurmExecutor(folder)
            executor.update_parameters(**_parameters(request, len(waiting)))
            try:
                jobs = [job.job_id for job in executor.map_array(run_in_job, waiting)]
            except (RuntimeError, OSError) as error:
                raise MgapError(
                    f"sbatch refused the jobs ({reason_of(error)}).",
                    "Change --time-limit, --partition, --account or --sbatch, then run it again.",
                ) from error
            new = {name: job.cell for name, job in zip(jobs, waiting, strict=True)}
            write_jobs(results, {**states.cells, **new})
    array = jobs[0].partition("_")[0] if jobs else None
    document = {
        "schema": schema("compare-slurm"),
        "job": array,
        "cells": [
            {"store": job.cell.store, "method": job.cell.method, "seed": job.cell.seed} for job in waiting
        ],
    }
    quoted = shlex.quote(str(results))
    first = f"job {array}: {counted(len(waiting), 'cell')}" if array else "no cell is left to submit"
    lines = [
        first,
        f"To see the state of the jobs: mgap compare {quoted} --status",
        f"To see the table: mgap compare {quoted}",
    ]
    return document, "\n".join(lines)


def run_in_job(job: CellJob) -> None:
    """Run one cell as the only work of a job, in its own process, as a local cell.

    Exits with 1 if the cell fails, and with 75 if a signal stops it.
    """
    result = read_result(job.cell, job.results)
    if result and result.state == "done":
        say(f"{job.cell} is already done.")
        return
    if is_locked(job.cell.folder(job.results)):
        say(f"{job.cell} is being trained by another process.")
        return
    runtime = job.settings["runtime"]
    try:
        run_cells([job], cell_workers(str(runtime["device"]), str(runtime["threads"]), 1, 1), Output())
    except StoppedBySignal as stopped:
        say(stopped.message)
        if stopped.number == signal.SIGUSR1:
            _requeue()
        raise SystemExit(int(ExitCode.PREEMPTED)) from None
    result = read_result(job.cell, job.results)
    if result is None:
        raise SystemExit(int(ExitCode.PREEMPTED))
    if result.state == "failed":
        raise SystemExit(int(ExitCode.FAILED))


def _parameters(request: SlurmRequest, cells: int) -> dict[str, Any]:
    """Return the options that submitit writes into the script for sbatch."""
    return {
        "job_name": "mgap",
        "time": request.minutes,
        "array_parallelism": request.parallel or cells,
        "partition": request.partition,
        "account": request.account,
        "stderr_to_stdout": True,
        "wckey": None,  # clusters that check these keys refuse submitit's default
        "additional_parameters": {"signal": f"USR1@{WARNING_SECONDS}", "requeue": True, **request.more},
    }


def _requeue() -> None:
    """Put this job into the queue again; do nothing outside of Slurm."""
    number = os.environ.get("SLURM_JOB_ID")
    if number is None:
        return
    try:
        subprocess.run(
            ["scontrol", "requeue", number], check=True, capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError) as error:
        say(f"warning: this job is not queued again ({reason_of(error)}); submit the cell again.")


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise UsageError(
            f"--slurm: submitit is not installed ({error}).", "Run: pip install 'mgap[slurm]'"
        ) from error
    return submitit
