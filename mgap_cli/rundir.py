"""The run folder, and the only way files get into it.

    RUN/
      config.yaml        the resolved configuration of the stage that ran last (valid for --config)
      env.json           versions, device and command line of the stage that ran last
      status.json        state (running | done | preempted | failed), stage, epoch, step
      metrics.jsonl      a line an epoch: stage, epoch, lr, losses, validation figures, seconds; in the
                         adaptive stage the mixture too
      warmup.pt          the checkpoint that the warm-up chose
      warmup-last.pt     the warm-up's state after its last epoch or step, from which it resumes
      adapt.pt, adapt-last.pt   likewise for the adaptive stage
      gap.csv, gap.png, gap.json      what analyze-gap found
      history.png        the mixture over the epochs
      movement.csv, movement.png, movement.json      which samples moved between checkpoints
      evaluate.json      what evaluate found, evaluate-*.png its plots
      report.html        all of it on one page
      tensorboard/, wandb/      what --report-to leaves here
      store/             the data, where `mgap run` prepared it

Every file is written to a temporary neighbour, synced and renamed: it is whole or it is not there.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from mgap_cli.errors import MgapError, UnfitError
from mgap_cli.launch import is_main


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Yield a binary file that becomes `path` if the block ends well, and vanishes if it does not.

    Raises MgapError if the folder cannot be written or the disk is full; what stood at `path` stays.
    Of several processes of one run only the main one writes; the others' files go nowhere.
    """
    if not is_main():
        with Path(os.devnull).open("wb") as nowhere:
            yield nowhere
        return
    # Named before it exists, so that Ctrl-C at any moment finds it; made under the umask, as a cluster
    # that shares files wants it (mkstemp's are private).
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _cannot_write(path, error) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_write(path) as file:
        file.write(text.encode())


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON document, atomically. ValueError for NaN and infinities, which JSON has not."""
    write_text(path, json.dumps(document, indent=2, allow_nan=False) + "\n")


def write_status(run: Path, state: str, stage: str, epoch: int, step: int) -> None:
    """Write `status.json`, the word that survives torchrun's flattening of exit codes."""
    write_json(run / "status.json", {"state": state, "stage": stage, "epoch": epoch, "step": step})


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON document, None where there is none; UnfitError where it is damaged."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise damaged(path, str(error)) from error
    if not isinstance(document, dict):
        raise damaged(path, "not a JSON object")
    return document


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the epochs of a run folder, in order; none where nothing is trained. UnfitError as above."""
    path = run / "metrics.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        entries = [json.loads(line) for line in lines]
        if any(not {"stage", "epoch"} <= entry.keys() for entry in entries):
            raise ValueError("a line without stage and epoch")
    except FileNotFoundError:
        return []
    except (OSError, ValueError, AttributeError) as error:
        raise damaged(path, str(error)) from error
    return entries


def damaged(path: Path, detail: str) -> UnfitError:
    """Return the error of a file of the run folder that is not as it was written."""
    return UnfitError(
        f"{path}: damaged ({detail}).", "Move it away and run the command that writes it again."
    )


def write_environment(run: Path, chosen: dict[str, str]) -> None:
    """Write `env.json`: versions, the command line, and what was `chosen` for this machine."""
    packages = ("mgap", "torch", "torchvision", "numpy", "scikit-learn")
    versions = {}
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    machine = {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()}
    document = {"command": sys.argv, **chosen, **machine, "versions": versions}
    write_json(run / "env.json", document)


def _cannot_write(path: Path, error: OSError) -> MgapError:
    reason = error.strerror or str(error)
    return MgapError(f"{path}: cannot be written ({reason}).", "Free space, or choose another place.")
