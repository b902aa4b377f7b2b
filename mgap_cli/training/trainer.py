"""The one training loop, for every stage and every objective.

What it promises: a run that is killed at any moment and started again ends with the same weights as
one that was not, bit for bit on a CPU. Two rules give it that: every random draw is a function of
(seed, epoch, step), and everything else that an epoch changes is in `STAGE-last.pt`.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mgap_cli.config import Config
from mgap_cli.console import Sink, Ticker
from mgap_cli.data.loader import Batch, Loader, generator_for
from mgap_cli.data.store import Store
from mgap_cli.errors import ExitCode, MgapError, UnfitError, UsageError
from mgap_cli.gap.scores import Scores, scores_of
from mgap_cli.model.inference import predict
from mgap_cli.rundir import write_status, write_text
from mgap_cli.training.checkpoint import load_checkpoint, save_checkpoint
from mgap_cli.training.precision import Precision
from mgap_cli.training.signals import StopFlag, stop_on_signal
from mgap_cli.training.task import Task, build_task


@dataclass(frozen=True)
class Stage:
    """A part of the training budget.

    name: "warmup" or "adapt". first: epochs of the budget spent before it. span: epochs that the
    learning rate's schedule spans. origin: digest of the checkpoint it starts from ("": fresh weights).
    """

    name: str
    objective: str
    epochs: int
    span: int
    first: int = 0
    origin: str = ""


class Trainer:
    """Trains one stage in one run folder.

    `samples` are the positions in the store to train on (default: the whole training split). `initial`
    is the content of the checkpoint whose network the stage starts from, and whose optimizer's memory it
    keeps where the optimizer is the same.
    """

    def __init__(
        self,
        stage: Stage,
        config: Config,
        store: Store,
        run: Path,
        sink: Sink,
        precision: Precision,
        samples: np.ndarray | None = None,
        initial: dict[str, Any] | None = None,
    ) -> None:
        self.stage, self.config, self.store, self.run, self.sink = stage, config, store, run, sink
        self.precision, self.device = precision, precision.device
        self.task = self._initial_task(initial)
        self.train_indices = store.indices("train")
        samples = self.train_indices if samples is None else samples
        if len(samples) < 2:
            raise UnfitError(
                f"{store.path}: {len(samples)} sample to train on, and batch normalisation needs two.",
                "Prepare a store with more training clips.",
            )
        self.loader = self._loader(samples, config.train.batch_size)
        self.optimizer = _optimizer(self.task, config, self.device)
        if initial is not None and initial["config"]["train"]["optimizer"] == config.train.optimizer:
            groups = self.optimizer.state_dict()["param_groups"]
            memory = initial["loop"]["optimizer"]["state"]
            self.optimizer.load_state_dict({"state": memory, "param_groups": groups})
        self.scheduler = _scheduler(self.optimizer, config, stage)
        self.scaler = precision.scaler()
        self.epoch = self.step = self.bad_steps = 0
        self.sums = torch.zeros(5, dtype=torch.float64, device=self.device)  # n, loss, correct by head
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}

    @property
    def last_path(self) -> Path:
        return self.run / f"{self.stage.name}-last.pt"

    @property
    def best_path(self) -> Path:
        return self.run / f"{self.stage.name}-best.pt"

    @property
    def final_path(self) -> Path:
        return self.run / f"{self.stage.name}.pt"

    def fit(self) -> Path:
        """Train to the stage's last epoch, from wherever an earlier run stopped; return the checkpoint.

        Raises MgapError with exit code 75 after SIGTERM or SIGUSR1 (state saved), and with 1 where the
        loss stays non-finite or memory runs out.
        """
        if self.last_path.exists():
            self._restore(load_checkpoint(self.last_path))
        total = self.stage.epochs * self.loader.steps
        done = self.epoch * self.loader.steps + self.step
        if done:
            self.sink.log(f"{self.stage.name}: going on from epoch {self.epoch}, step {self.step}")
        try:
            with stop_on_signal() as stop, self.sink.progress(self.stage.name, total, "steps", done) as tick:
                while self.epoch < self.stage.epochs:
                    self._run_epoch(stop, tick)
        except torch.OutOfMemoryError as error:
            self._write_status("failed")
            size = self.config.train.batch_size
            raise MgapError(
                f"{self.device} ran out of memory at batch size {size}.",
                f"Try --batch-size {max(size // 2, 1)}.",
            ) from error
        except BaseException as error:
            preempted = isinstance(error, MgapError) and error.exit_code == ExitCode.PREEMPTED
            self._write_status("preempted" if preempted else "failed")
            raise
        if self.best_path.exists():
            self.best_path.replace(self.final_path)
        self._write_status("done")
        return self.final_path

    def _run_epoch(self, stop: StopFlag, tick: Ticker) -> None:
        started = time.monotonic()
        lr = float(self.scheduler.get_last_lr()[0])
        if self.step == 0:
            self._write_status("running")
            for line in self.task.objective.on_epoch_start(self.epoch, self._score_training_split):
                self.sink.log(f"{self.stage.name} epoch {self.epoch + 1}: {line}")
        self.task.train()
        for batch in self.loader.training(self.config.train.seed, self.epoch, self.step):
            self._train_step(batch)
            self.step += 1
            tick(self.epoch * self.loader.steps + self.step, f"lr {lr:.2g}")
            if stop and self.step < self.loader.steps:
                self._save_and_leave(stop)
        self.scheduler.step()
        self._finish_epoch(lr, time.monotonic() - started)
        if stop and self.epoch < self.stage.epochs:
            self._save_and_leave(stop)

    def _train_step(self, batch: Batch) -> None:
        with self.precision.autocast():
            loss, outputs = self.task(batch)
        self.optimizer.zero_grad(set_to_none=True)
        if not torch.isfinite(loss):
            self._count_bad_step(loss)
            return
        self.bad_steps = 0
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        noise = generator_for(self.config.train.seed, self.epoch, self.step, 1)
        self.task.objective.after_backward(self.task.network, outputs, noise)
        if self.config.train.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.task.parameters(), self.config.train.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        with torch.no_grad():
            n = len(batch.labels)
            correct = [
                (outputs.head(h).argmax(1) == batch.labels).sum() for h in ("fused", "audio", "visual")
            ]
            self.sums += torch.stack([torch.tensor(n, device=self.device), loss.detach() * n, *correct])

    def _count_bad_step(self, loss: Tensor) -> None:
        self.bad_steps += 1
        if self.bad_steps < self.config.train.max_bad_steps:
            return
        lr = self.scheduler.get_last_lr()[0]
        raise MgapError(
            f"{self.stage.name}: the loss is {loss.item()} for {self.bad_steps} steps in a row "
            f"(epoch {self.epoch + 1}, step {self.step + 1}, lr {lr:.3g}).",
            "Try a lower --lr or --clip-norm 1; the last whole epoch is kept.",
        )

    def _finish_epoch(self, lr: float, seconds: float) -> None:
        n, loss, *correct = self.sums.tolist()
        self.sums.zero_()
        entry: dict[str, Any] = {"stage": self.stage.name, "epoch": self.epoch + 1, "lr": lr}
        if n:
            fused, audio, visual = (c / n for c in correct)
            entry["train"] = {"loss": loss / n, "fused": fused, "audio": audio, "visual": visual}
        entry |= self.task.objective.epoch_record()
        for split in self._validation_splits():
            entry[split] = self._validate(split)
        self.history.append(entry)
        self.epoch, self.step = self.epoch + 1, 0
        if self._is_best(entry):
            self.best = {"on": self.config.train.select, "epoch": self.epoch}
            save_checkpoint(self.best_path, self._content())
        save_checkpoint(self.last_path, self._content())
        self._append_metrics(
            {**entry, "seconds": round(seconds, 3), "samples_per_second": round(n / seconds, 1)}
        )
        self._write_status("running")
        self.sink.log(_epoch_line(entry, self.stage.epochs, n / seconds))

    def _validation_splits(self) -> list[str]:
        splits = [s for s in ("val",) if (self.store.splits == s).any()]
        if self.config.train.select == "test":
            splits.append("test")
        return splits

    def _validate(self, split: str) -> dict[str, float]:
        """Return accuracy by head, and the fused (or only) head's mean cross-entropy as `loss`."""
        loader = self._loader(self.store.indices(split), self.config.runtime.eval_batch_size)
        found = predict(self.task.network, loader.ordered())
        heads = self.task.objective.heads
        true = found.probabilities[heads[0]][np.arange(len(found.labels)), found.labels]
        if not np.isfinite(true).all():
            raise MgapError(
                f"{self.stage.name}: predictions are not finite after epoch {self.epoch + 1}: it diverged.",
                "Try a lower --lr or --clip-norm 1; the last whole epoch is kept.",
            )
        figures = {"loss": float(-np.log(np.maximum(true, 1e-12)).mean())}
        for head in heads:
            figures[head] = float((found.probabilities[head].argmax(1) == found.labels).mean())
        return figures

    def _is_best(self, entry: dict[str, Any]) -> bool:
        """Higher accuracy on the selecting split wins, then the lower loss, then the earlier epoch."""
        select = self.config.train.select
        if select == "last" or not self.best:
            return True
        head = self.task.objective.heads[0]

        def rank(of: dict[str, Any]) -> tuple[float, float]:
            return of[select][head], -of[select]["loss"]

        return rank(entry) > rank(self.history[self.best["epoch"] - 1])

    def _score_training_split(self) -> tuple[Scores, np.ndarray]:
        loader = self._loader(self.train_indices, self.config.runtime.eval_batch_size)
        found = predict(self.task.network, loader.ordered())
        return scores_of(found, self.store.ids, self.store.classes), found.index

    def _loader(self, indices: np.ndarray, batch_size: int) -> Loader:
        return Loader(self.store, indices, self.device, self.config.augment, batch_size)

    def _initial_task(self, initial: dict[str, Any] | None) -> Task:
        task = build_task(self.config, self.stage.objective, len(self.store.classes), len(self.store.ids))
        if initial is not None:
            state = {k: v for k, v in initial["model"].items() if k.startswith("network.")}
            task.load_state_dict(state, strict=False)
        return task.to(self.device).to(memory_format=torch.channels_last)

    def _content(self) -> dict[str, Any]:
        return {
            "stage": self.stage.name,
            "objective": self.stage.objective,
            "origin": self.stage.origin,
            "config": self.config.to_dict(),
            "classes": list(self.store.classes),
            "store": {
                "path": str(self.store.path.resolve()),
                "name": self.store.name,
                "fingerprint": self.store.fingerprint,
            },
            "model": self.task.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "history": self.history,
            "selected": self.best,
            "spent": self.stage.first + self.epoch,
            "loop": {
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "scaler": self.scaler.state_dict(),
                "sums": self.sums,
                "bad_steps": self.bad_steps,
                "rng": torch.get_rng_state(),
            },
        }

    def _restore(self, content: dict[str, Any]) -> None:
        try:
            self._take_up(content)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UnfitError(
                f"{self.last_path}: its state does not fit its own configuration.",
                "Take an intact copy, or give --force to train the stage anew.",
            ) from error

    def _take_up(self, content: dict[str, Any]) -> None:
        loop = content["loop"]
        self.task.load_state_dict(content["model"])
        self.optimizer.load_state_dict(loop["optimizer"])
        self.scheduler.load_state_dict(loop["scheduler"])
        self.scaler.load_state_dict(loop["scaler"])
        self.sums = loop["sums"].to(self.device)
        self.bad_steps = loop["bad_steps"]
        torch.set_rng_state(loop["rng"])
        self.epoch, self.step = content["epoch"], content["step"]
        self.history, self.best = content["history"], content["selected"]

    def _save_and_leave(self, stop: StopFlag) -> None:
        save_checkpoint(self.last_path, self._content())
        raise MgapError(
            f"stopped by {stop.name} at epoch {self.epoch + 1}, step {self.step}; saved {self.last_path}.",
            "Run the same line again to go on.",
            ExitCode.PREEMPTED,
        )

    def _append_metrics(self, entry: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl; an epoch done again after a kill replaces its first line."""
        path = self.run / "metrics.jsonl"
        try:
            old = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        except ValueError as error:
            raise UnfitError(
                f"{path}: damaged ({error}).", "Move it away and run the same line again: it goes on."
            ) from error
        kept = [e for e in old if e["stage"] != entry["stage"] or e["epoch"] < entry["epoch"]]
        write_text(path, "".join(json.dumps(e) + "\n" for e in [*kept, entry]))

    def _write_status(self, state: str) -> None:
        write_status(self.run, state, self.stage.name, self.epoch, self.step)


def check_selection(config: Config, store: Store) -> None:
    """Raise UsageError if `train.select` names a split that the store has not."""
    select = config.train.select
    if select != "last" and not (store.splits == select).any():
        raise UsageError(f"--select {select}: {store.path} has no {select} split.", "Use --select last.")


def _optimizer(task: Task, config: Config, device: torch.device) -> torch.optim.Optimizer:
    train = config.train
    fused = device.type == "cuda"
    if train.optimizer == "sgd":
        return torch.optim.SGD(
            task.parameters(), train.lr, train.momentum, weight_decay=train.weight_decay, fused=fused
        )
    return torch.optim.AdamW(task.parameters(), train.lr, weight_decay=train.weight_decay, fused=fused)


def _scheduler(
    optimizer: torch.optim.Optimizer, config: Config, stage: Stage
) -> torch.optim.lr_scheduler.LRScheduler:
    """Return a schedule over the whole budget, taken up at the stage's first epoch."""
    train = config.train

    def factor(epoch: int) -> float:
        spent = stage.first + epoch
        if train.schedule == "step":
            return float(train.gamma ** (spent // train.step_size))
        if train.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * spent / stage.span))
        return 1.0

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _epoch_line(entry: dict[str, Any], epochs: int, rate: float) -> str:
    parts = [f"{entry['stage']} epoch {entry['epoch']}/{epochs}"]
    if "train" in entry:
        parts.append(f"loss {entry['train']['loss']:.3f}")
    for split in ("val", "test"):
        if split in entry:
            accuracies = ", ".join(f"{h} {v:.1%}" for h, v in entry[split].items() if h != "loss")
            parts.append(f"{split} {accuracies}")
    return "; ".join([*parts, f"lr {entry['lr']:.2g}", f"{rate:.0f} samples/s"])
