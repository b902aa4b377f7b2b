"""Experiment trackers beside metrics.jsonl. Each is an optional package, imported only on request.

A tracker gets the metrics of an epoch before the epoch is saved. If the process is killed between the two, no
metric is lost: the epoch is repeated, and each tracker makes sure that its metrics are recorded once.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from mgap_cli.config import Config
from mgap_cli.errors import MgapError, UsageError
from mgap_cli.output import Output

Figures = dict[str, float]
History = list[dict[str, Any]]
_MODULES = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb", "trackio": "trackio"}


class Logger:
    """A tracker that records nothing; the base class of the others.

    run: the run folder. stage: the name of the stage. history: its epochs that earlier commands finished.
    """

    def __init__(self, run: Path, stage: str, config: Config, history: History, sink: Output) -> None:
        self.sink, self.well = sink, True

    def epoch(self, number: int, entry: dict[str, Any]) -> None:
        """Take the metrics of epoch `number`, from 1. If the tracker fails, training continues without it."""
        self._attempt(lambda: self.write(number, flat(entry)))

    def close(self) -> None:
        """Send the metrics that are not sent yet."""
        self._attempt(self.finish)

    def write(self, number: int, figures: Figures) -> None:
        """Send the metrics of an epoch to the tracker; any exception counts as a failure."""

    def finish(self) -> None:
        """Close the tracker."""

    def _attempt(self, action: Callable[[], None]) -> None:
        if not self.well:
            return
        try:
            with redirect_stdout(sys.stderr):  # stdout is for the command's result
                action()
        except Exception as error:  # networks, disks and packages may raise any exception
            self.well = False
            name, reason = type(self).__name__, " ".join(str(error).split())
            self.sink.warn(f"--report-to: {name} failed ({reason}); metrics.jsonl has all the metrics.")


class TensorBoard(Logger):
    """Writes event files to RUN/tensorboard/STAGE. `purge_step` removes steps after the last save."""

    def __init__(self, run: Path, stage: str, config: Config, history: History, sink: Output) -> None:
        super().__init__(run, stage, config, history, sink)
        folder = run / "tensorboard" / stage
        self.writer = package("tensorboard").SummaryWriter(str(folder), purge_step=len(history) + 1)

    def write(self, number: int, figures: Figures) -> None:
        for tag, value in figures.items():
            self.writer.add_scalar(tag, value, number)
        self.writer.flush()

    def finish(self) -> None:
        self.writer.close()


class Wandb(Logger):
    """One Weights & Biases run per stage, in RUN/wandb; a resumed run refuses steps that it already has."""

    def __init__(self, run: Path, stage: str, config: Config, history: History, sink: Output) -> None:
        super().__init__(run, stage, config, history, sink)
        wandb = package("wandb")
        run.mkdir(parents=True, exist_ok=True)
        self.run = wandb.init(
            project="mgap",
            id=identity(run, stage),
            name=f"{run.resolve().name}-{stage}",
            group=run.resolve().name,
            job_type=stage,
            dir=str(run),
            config=config.to_dict(),
            resume="allow",
            settings=wandb.Settings(console="off", silent=True),
        )

    def write(self, number: int, figures: Figures) -> None:
        if number >= self.run.step:
            self.run.log(figures, step=number)

    def finish(self) -> None:
        self.run.finish()


class Trackio(Logger):
    """One local Trackio run per stage, in Trackio's database (TRACKIO_DIR). Recorded steps are not changed.

    Trackio writes from a thread, a little later. Metrics that a kill lost are written again from the history.
    """

    def __init__(self, run: Path, stage: str, config: Config, history: History, sink: Output) -> None:
        super().__init__(run, stage, config, history, sink)
        self.trackio = trackio = package("trackio")
        name = identity(run, stage)
        logged = trackio.sqlite_storage.SQLiteStorage.get_logs("mgap", name)
        self.last = max((int(row["step"]) for row in logged), default=0)
        self.run = trackio.init(project="mgap", name=name, group=run.resolve().name, resume="allow")
        for entry in history:
            self.write(entry["epoch"], flat(entry))

    def write(self, number: int, figures: Figures) -> None:
        if number > self.last:
            self.run.log(figures, step=number)
            self.last = number

    def finish(self) -> None:
        self.trackio.finish()  # the module's, so that its own hook at exit prints nothing


_LOGGERS: dict[str, Callable[..., Logger]] = {
    "none": Logger,
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "trackio": Trackio,
}


def package(name: str) -> Any:
    """Import the package behind `--report-to NAME`; UsageError if it is not installed."""
    try:
        return importlib.import_module(_MODULES[name])
    except ImportError as error:
        raise UsageError(
            f"--report-to {name}: it is not installed ({error}).", f"Run: pip install 'mgap[{name}]'"
        ) from error


def open_logger(name: str, run: Path, stage: str, config: Config, history: History, sink: Output) -> Logger:
    """Return the tracker called `name`, ready for the epoch after `history`.

    Raises UsageError if its package is missing, MgapError if it cannot start.
    """
    try:
        with redirect_stdout(sys.stderr):
            logger = _LOGGERS[name](run, stage, config, history, sink)
    except MgapError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        hint = "Without an account or a network, set WANDB_MODE=offline." if name == "wandb" else ""
        raise MgapError(f"--report-to {name}: cannot start ({reason}).", hint) from error
    if name != "none":
        sink.log(f"{stage}: reporting to {name}")
    return logger


def identity(run: Path, stage: str) -> str:
    """Return a name that is always the same for this stage of this run folder, and only for it."""
    digest = hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:8]
    return f"{run.resolve().name}-{digest}-{stage}"


def flat(entry: dict[str, Any]) -> Figures:
    """Return the numbers of an epoch by their paths, such as `val/fused` or `mixture/components/0/mean`."""
    figures: Figures = {}

    def walk(value: Any, *path: str) -> None:
        if isinstance(value, dict | list):
            for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
                walk(inner, *path, str(key))
        elif isinstance(value, int | float) and path != ("epoch",):
            figures["/".join(path)] = float(value)

    walk(entry)
    return figures
