"""Read a run folder for its report: its documents, its checkpoints, and whether they belong together."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from mgap_cli.data.store import Store, is_store, open_store
from mgap_cli.errors import MgapError, UnfitError
from mgap_cli.files import MALFORMED, damaged, file_digest, read_json, read_record
from mgap_cli.runs.checkpoint import Checkpoint, load_checkpoint, matching_store
from mgap_cli.runs.layout import STAGES, read_metrics

MARKS = (
    *("config.yaml", "status.json", "metrics.jsonl", "evaluate.json", "movement.json"),
    *(f"gap-{stage}.json" for stage in STAGES),
)


@dataclass
class RunFolder:
    """A run folder. Each file is read when it is needed.

    store: where the data are, if not where the checkpoints say. Raises UnfitError for a folder without any
    file of a run, and for damaged files.
    """

    path: Path
    store_path: Path | None = None
    digests: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.path.is_dir():
            what = "is a file" if self.path.exists() else "no such folder"
            raise UnfitError(f"{self.path}: {what}.", "Give the run folder of mgap run, warmup or adapt.")
        if not any((self.path / name).exists() for name in MARKS):
            raise UnfitError(
                f"{self.path}: the folder has no file of a run (no {', no '.join(MARKS[:3])}).",
                "Give the run folder of mgap run, warmup or adapt.",
            )

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @cached_property
    def epochs(self) -> list[dict[str, Any]]:
        return read_metrics(self.path)

    @cached_property
    def status(self) -> dict[str, Any]:
        return read_json(self.path / "status.json") or {}

    @cached_property
    def environment(self) -> dict[str, Any]:
        return read_json(self.path / "env.json") or {}

    @cached_property
    def config_text(self) -> str:
        return read_record(self.path / "config.yaml") or ""

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Return {section.key: value} of config.yaml; a value is a scalar or a list of scalars.

        A mapping such as model.encoders gives one entry per name, {section.key.name: value}.
        """
        try:
            tree = yaml.safe_load(self.config_text) or {}
            flat = {
                f"{section}.{key}": value for section, keys in tree.items() for key, value in keys.items()
            }
            for key in [key for key, value in flat.items() if isinstance(value, dict)]:
                flat |= {f"{key}.{name}": value for name, value in flat.pop(key).items()}
            for key, value in flat.items():
                if any(isinstance(v, list | dict) for v in (value if isinstance(value, list) else [value])):
                    raise ValueError(f"{key[:40]} is not a value or a list of values")
        except (yaml.YAMLError, *MALFORMED) as error:
            raise damaged(self.path / "config.yaml", error) from error
        return flat

    @cached_property
    def checkpoints(self) -> dict[str, Checkpoint]:
        """Return the checkpoints of the finished stages, by stage."""
        paths = {stage: self.path / f"{stage}.pt" for stage in STAGES}
        return {stage: load_checkpoint(path) for stage, path in paths.items() if path.is_file()}

    def document(self, name: str) -> dict[str, Any] | None:
        """Return a JSON document of the folder; None if the file is missing."""
        return read_json(self.path / name)

    def outdated(self, sha256: Mapping[str, str]) -> list[str]:
        """Return the names of this folder's checkpoints that have changed since their digests were recorded.

        sha256: path to digest, as documents record them. Checkpoints of other folders are skipped.
        """
        here = self.path.resolve()
        names = []
        for given, digest in sha256.items():
            in_this_folder = Path(given).resolve().parent == here or Path(given).parent.name == here.name
            path = self.path / Path(given).name
            if in_this_folder and path.is_file() and self._digest(path) != digest:
                names.append(path.name)
        return names

    def open_store(self) -> Store:
        """Open the data on which the run was trained. Raises UnfitError if it cannot be found."""
        for stage in STAGES:
            for name in (f"{stage}.pt", f"{stage}-last.pt"):
                path = self.path / name
                if path.is_file():
                    checkpoint = self.checkpoints.get(stage) or load_checkpoint(path)
                    return self._matching(checkpoint, path)
        folder = self.store_path or self.path / "store"
        if not is_store(folder):
            raise UnfitError("no checkpoint names the store.", "Say where it is with --store FOLDER.")
        return open_store(folder)

    def command(self, *words: str) -> str:
        """Return a command line in which the names of the folder's files have its path before them."""
        paths = (str(self.path / word) if word.endswith(".pt") else word for word in words)
        return " ".join(["mgap", *map(shlex.quote, paths)])

    def _matching(self, checkpoint: Checkpoint, path: Path) -> Store:
        try:
            return matching_store(checkpoint, path, self.store_path)
        except MgapError:
            store_here = self.path / "store"  # a run folder that was moved takes its store along
            if self.store_path is None and is_store(store_here):
                return matching_store(checkpoint, path, store_here)
            raise

    def _digest(self, path: Path) -> str:
        if path.name not in self.digests:
            self.digests[path.name] = file_digest(path)
        return self.digests[path.name]
