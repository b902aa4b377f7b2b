"""The two stages of a run: what each starts from, and whether a folder may take it."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mgap_cli import processes
from mgap_cli.config import Config, differing_keys
from mgap_cli.data.loading.loader import training_steps
from mgap_cli.data.sample_lists import listed_samples
from mgap_cli.data.store import Store
from mgap_cli.errors import UnfitError, UsageError
from mgap_cli.files import same_file, write_text
from mgap_cli.gap.mixture import fit_mixture
from mgap_cli.methods import build_objective
from mgap_cli.output import Sink
from mgap_cli.runs.checkpoint import config_of, load_checkpoint, matching_store
from mgap_cli.runs.layout import require_run_folder, write_environment, write_status
from mgap_cli.training.device import be_deterministic, choose_device, choose_float32
from mgap_cli.training.distributed import join, writing
from mgap_cli.training.precision import Precision, choose_precision
from mgap_cli.training.task import network_from
from mgap_cli.training.trackers import package
from mgap_cli.training.trained_model import open_trained
from mgap_cli.training.trainer import Stage, Trainer, check_selection

# The settings that decide a stage's weights; `runtime` may change between a run and its resumption.
_SECTIONS = {
    "warmup": ("model", "augment", "train", "warmup", "ogm"),
    "adapt": ("model", "augment", "train", "adapt", "adaptive", "gap", "ogm"),
}


@dataclass(frozen=True)
class Plan:
    """A stage about to run: everything that `--dry-run` shows and `execute` needs.

    initial: path and content of the checkpoint that the stage starts from, for `adapt`.
    """

    stage: Stage
    config: Config
    store: Store
    run: Path
    initial: tuple[Path, dict[str, Any]] | None = None

    def summary(self) -> dict[str, Any]:
        """Return counts of samples by split, steps an epoch and epochs."""
        counts = {s: int((self.store.splits == s).sum()) for s in ("train", "val", "test")}
        steps = training_steps(counts["train"], self.config.train.batch_size)
        return {
            "stage": self.stage.name,
            "objective": self.stage.objective,
            "run": str(self.run),
            "store": str(self.store.path),
            "samples": counts,
            "epochs": self.stage.epochs,
            "steps_per_epoch": steps,
        }


def plan_warmup(store: Store, config: Config, run: Path) -> Plan:
    """Plan joint training from fresh weights.

    Raises UsageError for an objective that needs a warm-up first, and for a folder that holds other files.
    """
    require_run_folder(run)
    if config.warmup.objective == "adaptive":
        raise UsageError(
            "warmup cannot use the adaptive objective: there is no mixture to start from.",
            "Run `mgap warmup` with another --objective, then `mgap adapt` on its checkpoint.",
        )
    _check(config.warmup.objective, config, store)
    config = dataclasses.replace(config, data=store.data_config)  # the store is made: its protocol holds
    span = max(config.train.epochs, config.warmup.epochs)
    return Plan(Stage("warmup", config.warmup.objective, config.warmup.epochs, span), config, store, run)


def plan_adapt(checkpoint: Path, content: dict[str, Any], store: Store, config: Config, run: Path) -> Plan:
    """Plan training that goes on from a checkpoint's network.

    It has the rest of the budget after the epoch that the checkpoint holds, or `adapt.epochs`. Raises
    UsageError if nothing is left, if `config` changes the network, or if the folder holds other files;
    UnfitError if the checkpoint trained one branch only.
    """
    require_run_folder(run)
    if any(same_file(checkpoint, path) for path in _checkpoints(run, "adapt")):
        raise UsageError(
            f"{checkpoint}: adapt would replace the checkpoint that it starts from.",
            "Choose another folder with -o.",
        )
    changed = differing_keys(config_of(content, checkpoint), config, ("model",))
    if changed:
        raise UsageError(
            f"{checkpoint}: its network cannot change in adapt ({_differences(changed)}).",
            "Set these in `mgap warmup`.",
        )
    if content["objective"].startswith("unimodal"):
        raise UnfitError(
            f"{checkpoint}: trained with {content['objective']}, one branch only.",
            "adapt needs a warm-up of both: `mgap warmup STORE --objective joint-heads`.",
        )
    _check(config.adapt.objective, config, store)
    origin = _origin(checkpoint, config.adapt.only, store)
    first = content["spent"]
    epochs = config.adapt.epochs or config.train.epochs - first
    if epochs < 1:
        raise UsageError(
            f"{checkpoint}: has spent the whole budget of {config.train.epochs} epochs.",
            "Say how many to add with --epochs, or warm up for fewer.",
        )
    span = max(config.train.epochs, first + epochs)
    stage = Stage("adapt", config.adapt.objective, epochs, span, first, origin)
    return Plan(stage, config, store, run, (checkpoint, content))


def open_for_adapt(checkpoint: Path, store: Path | None) -> tuple[dict[str, Any], Store]:
    """Return a warm-up checkpoint's content and its store; UnfitError if either is unfit."""
    content = load_checkpoint(checkpoint)
    network_from(content, config_of(content, checkpoint), checkpoint)
    return content, matching_store(content, checkpoint, store)


def execute(plan: Plan, sink: Sink, force: bool = False) -> Path:
    """Run a stage to its end and return its checkpoint; a finished one is returned at once.

    Raises UsageError, naming the keys, if the folder holds the stage under another configuration;
    `force` trains the stage again instead. Raises MgapError if another process writes in the folder.
    """
    with writing(plan.run, plan.config.runtime.device, sink):
        return _execute(plan, sink, force)


def _execute(plan: Plan, sink: Sink, force: bool) -> Path:
    check_selection(plan.config, plan.store)
    name, run = plan.stage.name, plan.run
    final, last, best = _checkpoints(run, name)
    for path in (final, last):
        if path.exists() and not force:
            _refuse_other_configuration(path, plan)
    if final.exists() and not force:
        epochs = plan.stage.epochs
        write_status(run, "done", name, epochs, 0)
        sink.log(f"{name}: already finished ({epochs} epochs) in {run}; --force trains it anew")
        return final
    device = choose_device(plan.config.runtime.device, sink)
    world = join(device)
    if world.size > 1:
        share = plan.config.train.batch_size // world.size
        sink.log(f"processes: {world.size}, {share} samples of each batch apiece")
    if force and world.is_main:
        for path in (final, last, best):
            path.unlink(missing_ok=True)
    world.barrier()
    if plan.config.runtime.deterministic:
        be_deterministic(device, sink)
    precision = choose_precision(plan.config.runtime.precision, device, plan.config, sink)
    float32 = choose_float32(plan.config.runtime.float32, precision.name, device, sink)
    samples = _subset(plan, precision, sink) if name == "adapt" else None
    trainer = Trainer(plan.stage, plan.config, plan.store, run, sink, precision, samples, plan.initial)
    write_text(run / "config.yaml", plan.config.to_yaml())
    chosen = {
        "device": str(device),
        "processes": str(world.size),
        "precision": precision.name,
        "float32": float32,
    }
    write_environment(run, chosen)
    return trainer.fit()


def _checkpoints(run: Path, stage: str) -> tuple[Path, Path, Path]:
    """Return where a stage keeps its result, its latest state and, while it trains, its best epoch."""
    return run / f"{stage}.pt", run / f"{stage}-last.pt", run / f"{stage}-best.pt"


def _subset(plan: Plan, precision: Precision, sink: Sink) -> np.ndarray | None:
    """Return the positions of the training samples that `adapt.only` asks for; None for all."""
    if plan.config.adapt.only == "all":
        return None
    if plan.config.adapt.only == "balanced":
        return _purified(plan, precision, sink)
    train = plan.store.indices("train")
    kept = listed_samples(Path(plan.config.adapt.only), plan.store)
    sink.log(f"adapt: training on {len(kept)} listed of {len(train)} samples")
    return kept


def _purified(plan: Plan, precision: Precision, sink: Sink) -> np.ndarray:
    """Return the positions of the training samples that the warm-up's mixture calls balanced."""
    assert plan.initial is not None
    model = open_trained(plan.initial[0], precision.device, plan.store.path)
    gap = model.scores("train").gap
    mixture, warnings = fit_mixture(gap, plan.config.gap)
    for warning in warnings:
        sink.warn(warning)
    train = plan.store.indices("train")
    kept = train[mixture.posterior(gap) < plan.config.adapt.threshold]
    sink.log(f"adapt: training on {len(kept)} balanced of {len(train)} samples")
    if len(kept) < 2:
        raise UsageError(
            f"--only balanced: fewer than two samples have a posterior under {plan.config.adapt.threshold}.",
            "Raise --threshold.",
        )
    return kept


def _origin(checkpoint: Path, only: str, store: Store) -> str:
    """Return a hash of what the stage starts from: the checkpoint, and the samples that a list names."""
    digest = hashlib.sha256(checkpoint.read_bytes())
    if only not in ("all", "balanced"):
        digest.update(listed_samples(Path(only), store).tobytes())
    return digest.hexdigest()


def _check(objective: str, config: Config, store: Store) -> None:
    """Raise UsageError for an objective that does not fit, or a logger that is not installed, or a batch
    that does not divide among the processes.
    """
    build_objective(objective, config, len(store.ids))
    if config.runtime.report_to != "none":
        package(config.runtime.report_to)
    batch, count = config.train.batch_size, processes.size()
    if batch % count:
        raise UsageError(
            f"--batch-size {batch} does not divide among {count} processes.",
            f"It counts the samples of all processes together: try {-(-batch // count) * count}.",
        )


def _refuse_other_configuration(path: Path, plan: Plan) -> None:
    content = load_checkpoint(path)
    differing = differing_keys(config_of(content, path), plan.config, _SECTIONS[plan.stage.name])
    reasons = []
    if content["store"]["fingerprint"] != plan.store.fingerprint:
        reasons.append("another store")
    if content.get("origin", "") != plan.stage.origin:
        reasons.append("another warm-up checkpoint or list of samples")
    if differing:
        reasons.append(_differences(differing))
    if reasons:
        raise UsageError(
            f"{path.parent} already holds this stage with {'; '.join(reasons)}.",
            "Choose another folder with -o, or give --force to train it anew.",
        )


def _differences(keys: dict[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{key} {old!r} there, {new!r} here" for key, (old, new) in keys.items())
