"""The run folder: which files it has, and whether a folder may become one.

    RUN/
      config.yaml        the resolved configuration of the stage that ran last (valid for --config)
      env.json           versions, commit, host, date, device, threads and command line of the stage that
                         ran last
      status.json        state (running | done | preempted | interrupted | failed), stage, epoch, step; when
                         it was written (time), where (host) and by which process (pid)
      metrics.jsonl      one line per epoch: stage, epoch, lr, losses, validation figures, seconds; in the
                         adaptive stage also the mixture
      train.pt, train-last.pt   the same as the next two, of a method with one stage (`mgap train`)
      teacher-audio.pt, copy-fused.pt ...   the same for the stages before it, of a method that has them
      warmup.pt          the checkpoint that the warm-up chose
      warmup-last.pt     the warm-up's state after its last epoch or step, from which it resumes
      adapt.pt, adapt-last.pt   the same for the adaptive stage
      gap-warmup.csv, gap-warmup.png, gap-warmup.json   what analyze-gap found for warmup.pt; the files of
                         another checkpoint have its name: gap-adapt.csv ...
      human-warmup.png   the comparison with human votes that analyze-gap --human --plot draws
      history.png        the mixture over the epochs
      movement.csv, movement.png, movement.json      which samples moved between checkpoints
      evaluate.json      what evaluate found, evaluate-*.png its plots
      baseline/          the fair baseline that `mgap run` trains, itself a run folder report.html all of it
      on one page tensorboard/, wandb/ what --report-to leaves here store/ the data, where `mgap run` prepared
      it .mgap.lock which process writes here; it exists only while one does (see `lock.py`)

`files.py` has the rules by which each file is written.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from mgap_cli.errors import UnfitError, UsageError
from mgap_cli.files import (
    MALFORMED,
    RUN_MARKS,
    STORE_MARK,
    cannot_write,
    damaged,
    is_checkpoint,
    parsed_json,
    read_json,
    read_record,
    write_json,
)
from mgap_cli.packages import version_of

# `preempted`: stopped by SIGTERM or SIGUSR1; `interrupted`: by Ctrl-C; `failed`: ended by an error.
RunState = Literal["running", "done", "preempted", "interrupted", "failed"]
CHECKPOINT_FORMAT = "mgap-checkpoint"  # the value of a checkpoint's field `format`
STAGES = ("train", "warmup", "adapt")  # stages of the methods that ship with mgap, in the order of reports
LOCK_NAME = ".mgap.lock"


def gap_path(checkpoint: Path, suffix: str, prefix: str = "gap", folder: Path | None = None) -> Path:
    """Return where analyze-gap writes, in `folder` or beside the checkpoint: gap-warmup.csv for warmup.pt."""
    return (folder or checkpoint.parent) / f"{prefix}-{checkpoint.stem}{suffix}"


def require_run_folder(run: Path) -> None:
    """Check that `run` may become, or is, a run folder: it is new, empty, or already one.

    Hidden files do not count. Raises UsageError for a folder with other files, and MgapError for a file.
    """
    try:
        if run.exists() and not run.is_dir():
            raise cannot_write(run, "it is a file, and a run needs a folder")
        names = {path.name for path in run.iterdir()} if run.exists() else set()
    except OSError as error:
        raise cannot_write(run, error) from error
    visible = sorted(name for name in names if not name.startswith("."))
    if not visible or LOCK_NAME in names or _is_run_folder(run, names) or visible == ["store"]:
        return
    what = "it is a store" if STORE_MARK in names else f"it has other files, such as {visible[0]}"
    raise UsageError(f"{run}: is not a run folder ({what}).", "Choose a folder that is new or empty with -o.")


def _is_run_folder(run: Path, names: set[str]) -> bool:
    """Say whether an earlier command trained here.

    A folder that has a checkpoint of mgap, and no config.yaml that training would replace, counts too.
    """
    for mark, fields in zip(RUN_MARKS, ({"versions", "command"}, {"state", "stage"}), strict=True):
        with suppress(UnfitError):  # a damaged file proves nothing
            if fields <= (read_json(run / mark) or {}).keys():
                return True
    checkpoints = (run / name for name in names if name.endswith(".pt"))
    ours = any(is_checkpoint(path, CHECKPOINT_FORMAT.encode()) for path in checkpoints)
    return ours and "config.yaml" not in names


def write_status(run: Path, state: RunState, stage: str, epoch: int, step: int) -> None:
    """Write `status.json`. It says how a run ended, also under torchrun, which replaces the exit code.

    epoch: finished epochs of the stage. step: finished steps of the epoch after them.
    """
    reached = {"state": state, "stage": stage, "epoch": epoch, "step": step}
    write_json(run / "status.json", {**reached, "time": now(), "host": platform.node(), "pid": os.getpid()})


def now() -> str:
    """Return the local time with its offset from UTC, to the second."""
    return datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the epochs in a run folder's metrics.jsonl, in order; none if nothing was trained there.

    Raises UnfitError, with the line's number, for a line that is not an epoch.
    """
    path = run / "metrics.jsonl"
    text = read_record(path) or ""
    entries = []
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], start=1):
        try:
            entry = parsed_json(line)
            if not _is_epoch(entry):
                raise ValueError("it needs a stage, and an epoch from 1")
        except MALFORMED as error:
            raise damaged(path, f"line {number}: {error}") from error
        entries.append(entry)
    return entries


def _is_epoch(entry: object) -> bool:
    if not isinstance(entry, dict):
        return False
    epoch = entry.get("epoch")
    return isinstance(entry.get("stage"), str) and type(epoch) is int and epoch > 0


def write_environment(run: Path, chosen: Mapping[str, str | int]) -> None:
    """Write `env.json`: versions, the command line, and what was `chosen` for this machine.

    The field `commit` is the git commit of the running mgap; null where it is not a git checkout.
    """
    packages = ("mgap", "torch", "torchvision", "numpy", "scikit-learn")
    versions = {package: version for package in packages if (version := version_of(package))}
    machine = {
        "host": platform.node(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
    }
    document = {
        "command": sys.argv,
        "date": now(),
        **chosen,
        **machine,
        "commit": _commit(),
        "versions": versions,
    }
    write_json(run / "env.json", document)


def _commit() -> str | None:
    """Return the git commit of the checkout that this program is run from, with a + after local changes."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):  # git is not installed, or refuses a folder of another user
        return None
    return commit + ("+" if changes else "")


def _git(root: Path, *words: str) -> str:
    line = ["git", "-C", str(root), *words]
    return subprocess.run(line, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
