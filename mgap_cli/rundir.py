"""The run folder, and the only way files get into it.

    RUN/
      config.yaml        the resolved configuration of the stage that ran last (valid for --config)
      env.json           versions, device and command line of the stage that ran last
      status.json        state (running | done | preempted | failed), stage, epoch, step
      metrics.jsonl      a line an epoch: stage, epoch, lr, losses, validation figures, seconds
      warmup.pt          the checkpoint that the warm-up chose
      warmup-last.pt     the warm-up's state after its last epoch or step, from which it resumes
      adapt.pt, adapt-last.pt   likewise for the adaptive stage
      gap.csv, gap.png, gap.json      what analyze-gap found
      evaluate.json      what evaluate found
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

from mgap_cli.errors import MgapError


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Yield a binary file that becomes `path` if the block ends well, and vanishes if it does not.

    Raises MgapError if the folder cannot be written or the disk is full; what stood at `path` stays.
    """
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


def write_environment(run: Path, chosen: dict[str, str]) -> None:
    """Write `env.json`: versions, the command line, and what was `chosen` for this machine."""
    packages = ("mgap", "torch", "torchvision", "torchaudio", "numpy", "scikit-learn")
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
