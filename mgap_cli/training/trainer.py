"""The one training loop, for every stage and every method.

A run that is killed at any moment and started again ends with the same weights as an uninterrupted run, bit
for bit on a CPU. Two rules make this true: every random draw is a function of (seed, epoch, step), and
everything else that an epoch changes is in `STAGE-last.pt`.
"""

from __future__ import annotations

import json
import math
import signal
import textwrap
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mgap_cli.config import Config
from mgap_cli.data.loading.loader import Batch, Loader, generator_for
from mgap_cli.data.loading.placement import place_samples
from mgap_cli.data.store import Store
from mgap_cli.errors import STOP_SIGNALS, ExitCode, MgapError, UnfitError, UsageError
from mgap_cli.files import MALFORMED, write_text
from mgap_cli.gap.scores import Scores, scores_of
from mgap_cli.methods.base import BudgetEpoch
from mgap_cli.model.inference import Predictions
from mgap_cli.model.network import MultimodalNetwork
from mgap_cli.model.own_files import network_plugins
from mgap_cli.output import Output, Ticker
from mgap_cli.plugins import find_plugin, is_plugin
from mgap_cli.runs.checkpoint import Checkpoint, TrainedStore, load_checkpoint, save_checkpoint
from mgap_cli.runs.layout import RunState, read_metrics, write_status
from mgap_cli.signals import StopFlag, ignore_signals, stop_on_signal
from mgap_cli.training.compiling import compiled
from mgap_cli.training.distributed import World, join, predict_together, share_batch_norm
from mgap_cli.training.epoch import TrainingEpoch
from mgap_cli.training.fitting import require_alike
from mgap_cli.training.optimizers import Optimizers
from mgap_cli.training.precision import Precision
from mgap_cli.training.stage import Stage
from mgap_cli.training.step import Engine, TrainingStep
from mgap_cli.training.step_guard import StepGuard, TrainingPosition, explained
from mgap_cli.training.task import Task, build_task
from mgap_cli.training.trackers import open_logger


class Trainer:
    """Trains one stage in one run folder.

    `samples` are the positions in the store to train on (default: the whole training split). `initial`
    is the path and the content of the checkpoint whose network the stage starts from, and whose
    optimizer's memory it keeps where the optimizer is the same. `earlier`: networks of earlier stages for
    the method, by stage.
    """

    def __init__(
        self,
        stage: Stage,
        config: Config,
        store: Store,
        run: Path,
        sink: Output,
        precision: Precision,
        samples: np.ndarray | None = None,
        initial: tuple[Path, Checkpoint] | None = None,
        earlier: Mapping[str, MultimodalNetwork] | None = None,
    ) -> None:
        self.stage, self.config, self.store, self.run, self.sink = stage, config, store, run, sink
        self.precision, self.device = precision, precision.device
        self.world = join(self.device)
        torch.manual_seed(config.train.seed)  # checkpoints have the generator's state
        self.task = self._initial_task(initial[1] if initial else None, earlier or {})
        samples = store.indices("train") if samples is None else samples
        if len(samples) < 2:
            raise UnfitError(
                f"{store.path}: {len(samples)} sample to train on, and batch normalisation needs two.",
                "Prepare a store with more training clips.",
            )
        self.placed = place_samples(store, self.device, config.runtime, sink)
        self.loader = self._loader(samples, config.train.batch_size, self.world)
        self.plain_steps = self.loader.steps
        self.optimizers = Optimizers(self.task, config, stage, self.device)
        if initial is not None:
            self._keep_memory(*initial)
        self.scaler = precision.scaler()
        self.guard = StepGuard(self.task, config.train.max_bad_steps)
        network = self.task.network
        self.engine = Engine(
            self.task,
            compiled(network) if config.runtime.compile else network,
            self.optimizers,
            self.guard,
            precision,
            self.scaler,
            self.world,
            config.train.clip_norm,
        )
        self.heads = network.head_names
        self.plugins = network_plugins(config.model)
        if is_plugin(stage.method):
            self.plugins["method"] = find_plugin(stage.method)
        self.epoch = self.step = 0
        self.saved = time.monotonic()
        # The number of samples and their loss; then for each head its samples and its correct ones.
        self.sums = torch.zeros(2 + 2 * len(self.heads), dtype=torch.float64, device=self.device)
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
        """Train to the stage's last epoch, from where an earlier run stopped; return the checkpoint.

        Raises MgapError with exit code 75 after SIGTERM or SIGUSR1 and with 130 after Ctrl-C (state saved;
        after the last step the stage is finished first), and with 1 where the loss stays non-finite or memory
        runs out.
        """
        if self.last_path.exists():
            self._restore(load_checkpoint(self.last_path))
        total = self.stage.epochs * self.plain_steps
        done = self._steps_done()
        self.world.require_same(done, str(self.last_path))
        if done:
            self.sink.log(f"{self.stage.name}: continues from epoch {self.epoch}, step {self.step}")
        report_to = self.config.runtime.report_to if self.world.is_main else "none"
        self.logger = open_logger(report_to, self.run, self.stage.name, self.config, self.history, self.sink)
        try:
            with (
                closing(self.logger),
                stop_on_signal((*STOP_SIGNALS, signal.SIGINT)) as stop,
                self.sink.progress(self.stage.name, total, "steps", done) as tick,
            ):
                while self.epoch < self.stage.epochs:
                    self._run_epoch(stop, tick)
            self._keep_best()
            # Last of all, and with the earlier handlers back: no signal is lost between two stages.
            if stop.agree(self.world.max):
                raise _stopped(stop, f"after the last step of {self.stage.name}", self.final_path)
        except BaseException as error:
            if self.world.size > 1:
                ignore_signals()
            with suppress(MgapError):  # a full disk is then the first error to report
                self._write_status(_state_after(error))
            raise
        self._write_status("done")
        return self.final_path

    def _keep_best(self) -> None:
        """Make the best epoch's checkpoint the result; UnfitError if that of an earlier run is gone."""
        if self.world.is_main and self.best_path.exists():
            self.best_path.replace(self.final_path)
        self.world.barrier()
        if not self.final_path.exists():
            raise UnfitError(
                f"{self.last_path}: the stage is finished, but {self.final_path.name} is gone.",
                "Take a copy of it, or give --force to train the stage again.",
            )

    def _run_epoch(self, stop: StopFlag, tick: Ticker) -> None:
        started, first = time.monotonic(), self.step
        lr = self.optimizers.lr
        if self.step == 0:
            self._write_status("running")
            self._prepare_epoch()
        self.task.train()
        with explained(self.device, "--batch-size ", min(self.loader.batch_size, len(self.loader.indices))):
            for batch in self.loader.training(self.config.train.seed, self.epoch, self.step):
                self._train_step(batch)
                self.step += 1
                tick(self._steps_done(), f"lr {lr:.2g}")
                # This runs at every step, so that a signal acts at once. It uses gloo on the CPU and waits
                # for no GPU.
                if stop.agree(self.world.max) and self.step < self.loader.steps:
                    self._save_and_leave(stop)
                if self._save_is_due():
                    self._save()
        self.guard.require_finite(self._position(self.step))
        self.optimizers.next_epoch()
        self._finish_epoch(lr, time.monotonic() - started, 1 - first / self.loader.steps)
        if stop.agree(self.world.max) and self.epoch < self.stage.epochs:
            self._save_and_leave(stop)

    def _prepare_epoch(self) -> None:
        """Let the method prepare in every process; then copy the main process's method state to all."""
        self._log_each(self.task.method.on_epoch_start(self._context()))
        self.world.broadcast_buffers(self.task)
        self._arrange_epoch()

    def _context(self) -> TrainingEpoch:
        seed, budget_epoch = self.config.train.seed, self._budget_epoch()
        return TrainingEpoch(self.epoch, budget_epoch, seed, self.task, self.optimizers, self._predicted)

    def _log_each(self, lines: list[str]) -> None:
        for line in lines:
            for part in _wrapped(f"{self.stage.name} epoch {self.epoch + 1}: {line}"):
                self.sink.log(part)

    def _arrange_epoch(self) -> None:
        self.loader.arrange(self.task.method.epoch_samples(self.loader.indices))

    def _steps_done(self) -> int:
        """Return the steps so far. Every epoch counts the same, whether a method makes it long or short."""
        return self.epoch * self.plain_steps + self.step * self.plain_steps // self.loader.steps

    def _train_step(self, batch: Batch) -> None:
        generator = generator_for(self.config.train.seed, self.epoch, self.step, 1)
        progress = self.step / self.loader.steps
        step = TrainingStep(self.engine, batch, generator, self._budget_epoch(), progress)
        self.task.method.training_step(step)
        if self.device.type == "cpu" or (self.step + 1) % self.guard.limit == 0:
            self.guard.check(self._position(self.step + 1))
        with torch.no_grad():
            n = torch.full((), len(batch.labels), device=self.device)
            counts = [n, step.loss * n]
            for head in self.heads:
                logits = step.logits.get(head)
                missing = torch.zeros_like(n)
                counts.append(missing if logits is None else n)
                counts.append(missing if logits is None else (logits.argmax(1) == batch.labels).sum())
            self.sums += torch.where(step.good, torch.stack(counts), 0)

    def _budget_epoch(self) -> BudgetEpoch:
        return BudgetEpoch(self.stage.start_epoch + self.epoch, self.stage.schedule_epochs)

    def _position(self, step: int) -> TrainingPosition:
        return TrainingPosition(self.stage.name, self.epoch + 1, step, self.optimizers.lr)

    def _save_is_due(self) -> bool:
        """Save within a long epoch, so that a kill costs minutes and not hours."""
        minutes = self.config.runtime.save_every
        return bool(minutes) and time.monotonic() - self.saved >= 60 * minutes

    def _save(self) -> None:
        self.guard.require_finite(self._position(self.step))
        if self.world.is_main:
            save_checkpoint(self.last_path, self._checkpoint())
        self.saved = time.monotonic()

    def _finish_epoch(self, lr: float, seconds: float, share: float) -> None:
        """Validate, report and save an epoch; the share `share` of it was trained in `seconds`."""
        n, loss, *by_head = self.sums.tolist()
        self.sums.zero_()
        entry: dict[str, Any] = {"stage": self.stage.name, "epoch": self.epoch + 1, "lr": lr}
        if n:
            seen = zip(self.heads, by_head[::2], by_head[1::2], strict=True)
            entry["train"] = {"loss": loss / n, **{head: right / of for head, of, right in seen if of}}
        self._log_each(self.task.method.on_epoch_end(self._context()))
        entry |= self.task.method.epoch_record(self._budget_epoch())
        for split in self._validation_splits():
            entry[split] = self._validate(split)
        self.history.append(entry)
        self.epoch, self.step = self.epoch + 1, 0
        if self._is_best(entry):
            self.best = {"on": self.config.train.select, "epoch": self.epoch}
        rate = n * share / seconds
        figures = {**entry, "seconds": round(seconds, 3), "samples_per_second": round(rate, 1)}
        # Record before saving: after a kill in between, the epoch is repeated and recorded again.
        self._append_metrics(figures)
        self.logger.epoch(self.epoch, figures)
        if self.world.is_main and self.best["epoch"] == self.epoch:
            save_checkpoint(self.best_path, self._checkpoint())
        self._save()
        self._write_status("running")
        for line in _epoch_lines(entry, self.stage.epochs, rate):
            self.sink.log(line)

    def _validation_splits(self) -> list[str]:
        splits = [s for s in ("val",) if (self.store.splits == s).any()]
        if self.config.train.select == "test":
            splits.append("test")
        return splits

    def _validate(self, split: str) -> dict[str, float]:
        """Return accuracy by head, and the fused (or only) head's mean cross-entropy as `loss`."""
        predictions = self._predict(self.store.indices(split), self.task.network)
        heads = self.task.method.heads
        loss = predictions.mean_loss(heads[0])
        if not math.isfinite(loss):
            raise self.guard.diverged("it diverged: predictions are not finite", self._position(self.step))
        figures = {"loss": loss}
        for head in heads:
            figures[head] = float((predictions.probabilities[head].argmax(1) == predictions.labels).mean())
        return figures

    def _is_best(self, entry: dict[str, Any]) -> bool:
        """Rank epochs by accuracy on the selecting split, then by lower loss, then the earlier first."""
        best = self._best_entry()
        return best is None or self._rank(entry) > self._rank(best)

    def _best_entry(self) -> dict[str, Any] | None:
        """Return the history's entry of the best epoch; None without epochs, or with select=last."""
        number = self.best.get("epoch", 0)
        if self.config.train.select == "last" or not 0 < number <= len(self.history):
            return None
        entry: dict[str, Any] = self.history[number - 1]
        return entry

    def _rank(self, entry: dict[str, Any]) -> tuple[float, float]:
        figures = entry[self.config.train.select]
        return float(figures[self.task.method.heads[0]]), -float(figures["loss"])

    def _predicted(
        self, split: str, features: bool, network: MultimodalNetwork
    ) -> tuple[Predictions, Scores]:
        """Return a network's predictions and scores of a split; every process gets all of them."""
        indices = self.store.indices(split)
        if not len(indices):
            raise UsageError(
                f"{self.stage.method} reads the {split} split, and {self.store.path} has none.",
                "Prepare a store with one, or train with another --method.",
            )
        predictions = self._predict(indices, network, features)
        return predictions, scores_of(predictions, self.store.ids, self.store.classes, self.store.columns)

    def _predict(
        self, indices: np.ndarray, network: MultimodalNetwork, features: bool = False
    ) -> Predictions:
        size = min(self.config.runtime.eval_batch_size, len(indices))
        self.world.broadcast_buffers(self.task)  # batch norm saw a share in each process
        with explained(self.device, "--set runtime.eval_batch_size=", size):
            return predict_together(
                network, lambda some: self._loader(some, size), indices, self.world, features
            )

    def _loader(self, indices: np.ndarray, batch_size: int, world: World | None = None) -> Loader:
        """Return a loader; with `world`, it loads this process's share of each batch."""
        rank, ranks = (world.rank, world.size) if world else (0, 1)
        config, placed = self.config.augment, self.placed
        return Loader(self.store, indices, self.device, config, batch_size, rank, ranks, placed)

    def _initial_task(self, initial: Checkpoint | None, earlier: Mapping[str, MultimodalNetwork]) -> Task:
        classes, samples = len(self.store.classes), len(self.store.ids)
        task = build_task(self.config, self.stage.method, classes, samples, self.store.modalities)
        if initial is not None:
            task.network.load_state_dict(initial.network_state())
        task.method.on_stage_start(earlier)
        if self.config.runtime.sync_bn:
            share_batch_norm(task, self.device, self.world)
        return task.to(self.device).to(memory_format=torch.channels_last)

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(
            stage=self.stage.name,
            method=self.stage.method,
            heads=self.task.method.heads,
            plugins=self.plugins,
            parent_digest=self.stage.parent_digest,
            config=self.config,
            classes=self.store.classes,
            store=TrainedStore(str(self.store.path.resolve()), self.store.name, self.store.fingerprint),
            model=self.task.state_dict(),
            epoch=self.epoch,
            step=self.step,
            spent=self.stage.start_epoch + self.epoch,
            history=self.history,
            selected=self.best,
            modalities=self.store.modalities,
            loop={
                "optimizers": self.optimizers.state_dict(),
                "scaler": self.scaler.state_dict(),
                "sums": self.sums,
                "bad_steps": int(self.guard.row),
                "rng": torch.get_rng_state(),
                "threads": torch.get_num_threads(),
            },
        )

    def _keep_memory(self, path: Path, parent: Checkpoint) -> None:
        """Take the optimizers' memory from the checkpoint of another stage, if the optimizer is the same."""
        if parent.config.train.optimizer != self.config.train.optimizer:
            return
        try:
            self.optimizers.take_memory(parent.loop["optimizers"])
        except (RuntimeError, *MALFORMED) as error:
            raise UnfitError(
                f"{path}: loop.optimizers does not fit its own configuration.",
                "Take an intact copy, or run `mgap warmup` again.",
            ) from error

    def _restore(self, saved: Checkpoint) -> None:
        try:
            self._take_up(saved)
        except (RuntimeError, *MALFORMED) as error:
            raise UnfitError(
                f"{self.last_path}: its state does not fit its own configuration.",
                "Take an intact copy, or give --force to train the stage again.",
            ) from error

    def _take_up(self, saved: Checkpoint) -> None:
        loop = saved.loop
        require_alike(loop["scaler"], self.scaler.state_dict())
        require_alike(loop["sums"], self.sums.cpu())
        self.task.load_state_dict(saved.model)
        self._arrange_epoch()
        if saved.epoch > self.stage.epochs or saved.step > self.loader.steps:
            raise ValueError("it is beyond the end of the stage")
        self.optimizers.load_state_dict(loop["optimizers"])
        self.scaler.load_state_dict(loop["scaler"])
        self.sums = loop["sums"].to(self.device)
        self.guard.row.fill_(loop["bad_steps"])
        self.guard.remember()
        torch.set_rng_state(loop["rng"])
        self.epoch, self.step = saved.epoch, saved.step
        self.history, self.best = saved.history, saved.selected
        earlier = self._best_entry()
        if earlier:
            self._rank(earlier)

    def _save_and_leave(self, stop: StopFlag) -> None:
        if stop.by_user:
            self.sink.log("Ctrl-C: saving; press it again to stop without saving")
        self._save()
        self.world.barrier()  # the first to leave ends all, and the main process takes a while to save
        raise _stopped(stop, f"at epoch {self.epoch + 1}, step {self.step}", self.last_path)

    def _append_metrics(self, entry: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl; an epoch that is repeated after a kill replaces its first line."""
        if not self.world.is_main:
            return
        old = read_metrics(self.run)
        kept = [e for e in old if e["stage"] != entry["stage"] or e["epoch"] < entry["epoch"]]
        write_text(self.run / "metrics.jsonl", "".join(json.dumps(e) + "\n" for e in [*kept, entry]))

    def _write_status(self, state: RunState) -> None:
        if self.world.is_main:
            write_status(self.run, state, self.stage.name, self.epoch, self.step)


def _stopped(stop: StopFlag, when: str, saved: Path) -> MgapError:
    """Return the error of a run that a signal stops, once its state is saved."""
    return MgapError(
        f"stopped by {stop.name} {when}; saved {saved}.",
        "Run the same command again to continue.",
        ExitCode.INTERRUPTED if stop.by_user else ExitCode.PREEMPTED,
    )


def _state_after(error: BaseException) -> RunState:
    """Return the state of a run that this error ends."""
    code = error.exit_code if isinstance(error, MgapError) else ExitCode.FAILED
    if isinstance(error, KeyboardInterrupt) or code == ExitCode.INTERRUPTED:
        return "interrupted"
    return "preempted" if code == ExitCode.PREEMPTED else "failed"


def check_selection(config: Config, store: Store) -> None:
    """Raise UsageError if `train.select` names a split that the store does not have."""
    select = config.train.select
    if select != "last" and not (store.splits == select).any():
        raise UsageError(f"--select {select}: {store.path} has no {select} split.", "Use --select last.")


def _epoch_lines(entry: dict[str, Any], epochs: int, rate: float) -> list[str]:
    """Return the metrics of an epoch in lines of at most 80 characters, broken between words."""
    parts = [f"{entry['stage']} epoch {entry['epoch']}/{epochs}"]
    if "train" in entry:
        parts.append(f"loss {entry['train']['loss']:.3f}")
    for split in ("val", "test"):
        if split in entry:
            accuracies = ", ".join(f"{h} {v:.1%}" for h, v in entry[split].items() if h != "loss")
            parts.append(f"{split} {accuracies}")
    text = "; ".join([*parts, f"lr {entry['lr']:.2g}", f"{rate:.0f} samples/s"])
    return _wrapped(text)


def _wrapped(text: str) -> list[str]:
    """Return text in lines of at most 80 characters; a number stays beside its unit or name."""
    kept = text.replace("lr ", "lr\0").replace(" samples/s", "\0samples/s").replace("(sd ", "(sd\0")
    lines = textwrap.wrap(kept, 80, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return [line.replace("\0", " ") for line in lines]
