"""Plan and run the stages of a training; check where each starts and whether it fits the run folder."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
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
from mgap_cli.methods import load_method
from mgap_cli.methods.base import RecipeStage, with_required_model
from mgap_cli.model.network import FUSED
from mgap_cli.output import Output
from mgap_cli.runs.checkpoint import Checkpoint, load_checkpoint, matching_store
from mgap_cli.runs.layout import require_run_folder, write_environment, write_status
from mgap_cli.training.device import be_deterministic, choose_device, choose_float32
from mgap_cli.training.distributed import join, writing
from mgap_cli.training.precision import Precision, choose_precision
from mgap_cli.training.stage import Stage, deciding_sections
from mgap_cli.training.task import build_task
from mgap_cli.training.threads import choose_threads, use_threads
from mgap_cli.training.trackers import package
from mgap_cli.training.trained_model import network_from, open_trained
from mgap_cli.training.trainer import Trainer, check_selection


@dataclass(frozen=True)
class Plan:
    """A stage that is ready to run, with everything that `--dry-run` shows and `execute` needs.

    initial: the checkpoint that the stage starts from, with its path; None for new weights. takes: the
    checkpoints of earlier stages whose networks its method uses, by stage.
    """

    stage: Stage
    config: Config
    store: Store
    run: Path
    initial: tuple[Path, Checkpoint] | None = None
    takes: Mapping[str, Path] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Return counts of samples by split, steps per epoch and epochs."""
        counts = {s: int((self.store.splits == s).sum()) for s in ("train", "val", "test")}
        steps = training_steps(counts["train"], self.config.train.batch_size)
        return {
            "stage": self.stage.name,
            "method": self.stage.method,
            "run": str(self.run),
            "store": str(self.store.path),
            "samples": counts,
            "epochs": self.stage.epochs,
            "steps_per_epoch": steps,
        }


def plan_warmup(store: Store, config: Config, run: Path) -> Plan:
    """Plan the warm-up of `adaptive`. Raises UsageError for a method that needs a trained network."""
    return plan_first(RecipeStage("warmup", config.warmup.epochs, config.warmup.method), store, config, run)


def plan_adapt(path: Path, checkpoint: Checkpoint, store: Store, config: Config, run: Path) -> Plan:
    """Plan the adaptive stage, for `adapt.epochs` or the rest of the budget; see `plan_next`."""
    stage = RecipeStage("adapt", config.adapt.epochs, config.adapt.method)
    return plan_next(stage, path, checkpoint, store, config, run)


def plan_first(stage: RecipeStage, store: Store, config: Config, run: Path) -> Plan:
    """Plan a stage from new weights.

    Raises UsageError for a method that needs a network that is already trained, and for a folder that holds
    other files.
    """
    require_run_folder(run)
    _require_no_earlier(stage)
    if load_method(stage.method).needs.trained_start:
        raise UsageError(
            f"{stage.name} cannot use the method {stage.method}: it starts from a trained network.",
            "Run `mgap warmup` with another --method, then `mgap adapt` on its checkpoint.",
        )
    config = _checked(stage.method, config, store)
    schedule_epochs = max(config.train.epochs, stage.epochs)
    return Plan(Stage(stage.name, stage.method, stage.epochs, schedule_epochs), config, store, run)


def plan_next(
    stage: RecipeStage, path: Path, checkpoint: Checkpoint, store: Store, config: Config, run: Path
) -> Plan:
    """Plan a stage that continues with a checkpoint's network.

    It trains for the stage's epochs; if these are 0, for the rest of the budget after the checkpoint's epoch.
    Raises UsageError if nothing is left, if `config` changes the network, or if the folder holds other files;
    UnfitError if the checkpoint's method trained a single branch.
    """
    require_run_folder(run)
    _require_no_earlier(stage)
    config = with_required_model(load_method(stage.method), config)
    if any(same_file(path, stage_file) for stage_file in _checkpoints(run, stage.name)):
        raise UsageError(
            f"{path}: {stage.name} would replace the checkpoint that it starts from.",
            "Choose another folder with -o.",
        )
    changed = differing_keys(checkpoint.config, config, ("model",))
    if changed:
        raise UsageError(
            f"{path}: its network cannot change in {stage.name}: {_differences(changed)}.",
            "Set these in `mgap warmup`.",
        )
    if FUSED not in checkpoint.heads:
        raise UnfitError(
            f"{path}: trained with {checkpoint.method}, which trains one branch only.",
            f"{stage.name} needs all branches: `mgap warmup STORE --method joint-heads`.",
        )
    config = _checked(stage.method, config, store)
    start_epoch = checkpoint.spent
    epochs = stage.epochs or config.train.epochs - start_epoch
    if epochs < 1:
        raise UsageError(
            f"{path}: its training has used the whole budget of {config.train.epochs} epochs.",
            "Give the number of further epochs with --epochs, or warm up for fewer.",
        )
    schedule_epochs = max(config.train.epochs, start_epoch + epochs)
    digest = _parent_digest(path, config.adapt.only, store)
    planned = Stage(stage.name, stage.method, epochs, schedule_epochs, start_epoch, digest)
    return Plan(planned, config, store, run, (path, checkpoint))


def train(method: str, store: Store, config: Config, run: Path, sink: Output, force: bool = False) -> Path:
    """Train a method by its own recipe for the whole budget; return the last stage's checkpoint.

    Finished stages are skipped, and an interrupted one continues where it stopped.
    """
    plan = first_plan(method, store, config, run)
    checkpoint = execute(plan, sink, force)
    done = {plan.stage.name: checkpoint}
    for stage in _recipe(method, config, store)[1:]:
        stage_config = _stage_config(stage, config)
        if stage.fresh:
            plan = _plan_fresh(stage, {name: done[name] for name in stage.takes}, store, stage_config, run)
        else:
            plan = plan_next(stage, checkpoint, load_checkpoint(checkpoint), store, stage_config, run)
        checkpoint = done[stage.name] = execute(plan, sink, force)
    return checkpoint


def first_plan(method: str, store: Store, config: Config, run: Path) -> Plan:
    """Plan the first stage of a method's recipe."""
    stage = _recipe(method, config, store)[0]
    stage_config = _stage_config(stage, config)
    return (
        _plan_fresh(stage, {}, store, stage_config, run)
        if stage.fresh
        else plan_first(stage, store, stage_config, run)
    )


def _plan_fresh(
    stage: RecipeStage, takes: Mapping[str, Path], store: Store, config: Config, run: Path
) -> Plan:
    """Plan a stage from new weights whose schedule spans its own epochs.

    Raises UsageError if the folder holds other files.
    """
    require_run_folder(run)
    config = _checked(stage.method, config, store)
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in takes.values())).hexdigest()
    planned = Stage(stage.name, stage.method, stage.epochs, stage.epochs, 0, digest if takes else "")
    return Plan(planned, config, store, run, None, takes)


def _require_no_earlier(stage: RecipeStage) -> None:
    """Raise UsageError if a stage's method needs the networks of earlier stages of its own recipe."""
    if load_method(stage.method).needs.earlier:
        raise UsageError(
            f"{stage.name} cannot use the method {stage.method}: its recipe trains other networks first.",
            f"Train the whole recipe: mgap train STORE --method {stage.method}.",
        )


def _stage_config(stage: RecipeStage, config: Config) -> Config:
    """Return the settings of a recipe's stage: the user's, except those that the recipe fixes."""
    if not stage.settings:
        return config
    section = load_method(stage.method).name
    changes = {f"{section}.{key}": value for key, value in stage.settings.items()}
    return config.updated(changes, f"stage {stage.name}")


def _recipe(method: str, config: Config, store: Store) -> list[RecipeStage]:
    """Return a method's stages, each with the method that trains it."""
    names = [modality.name for modality in store.modalities]
    recipe = load_method(method).recipe(config, names)
    return [dataclasses.replace(stage, method=stage.method or method) for stage in recipe]


def open_for_adapt(path: Path, store: Path | None) -> tuple[Checkpoint, Store]:
    """Return the checkpoint of a warm-up and its store. Raises UnfitError if one of them cannot be used."""
    checkpoint = load_checkpoint(path)
    network_from(checkpoint, path)
    return checkpoint, matching_store(checkpoint, path, store)


def execute(plan: Plan, sink: Output, force: bool = False) -> Path:
    """Run a stage to its end and return its checkpoint; a finished one is returned at once.

    Raises UsageError, naming the keys, if the folder holds the stage under another configuration;
    `force` trains the stage again instead. Raises MgapError if another process writes in the folder.
    """
    with writing(plan.run, plan.config.runtime.device, sink):
        return _execute(plan, sink, force)


def _execute(plan: Plan, sink: Output, force: bool) -> Path:
    check_selection(plan.config, plan.store)
    name, run = plan.stage.name, plan.run
    final, last, best = _checkpoints(run, name)
    begun = plan.initial[1] if plan.initial and plan.initial[0].resolve().parent == run.resolve() else None
    for path in (final, last):
        if path.exists() and not force:
            begun = load_checkpoint(path)
            _refuse_other_configuration(path, begun, plan)
    if final.exists() and not force:
        epochs = plan.stage.epochs
        if processes.is_main():
            write_status(run, "done", name, epochs, 0)
        sink.log(f"{name}: already finished ({epochs} epochs) in {run}; --force trains it again")
        return final
    device = choose_device(plan.config.runtime.device, sink)
    world = join(device)
    if world.size > 1:
        share = plan.config.train.batch_size // world.size
        sink.log(f"processes: {world.size}, {share} samples of each batch in each")
    if force and world.is_main:
        for path in (final, last, best):
            path.unlink(missing_ok=True)
    world.barrier()
    threads = choose_threads(plan.config.runtime.threads, begun.loop.get("threads") if begun else None)
    number = world.max(threads.number)
    sink.log(f"threads: {number} ({threads.reason})")
    use_threads(number)
    if plan.config.runtime.deterministic:
        be_deterministic(device, sink)
    precision = choose_precision(plan.config.runtime.precision, device, plan.config, sink)
    float32 = choose_float32(plan.config.runtime.float32, precision.name, device, sink)
    samples = _subset(plan, precision, sink) if plan.initial else None
    before = plan.initial[1].method if plan.initial else plan.stage.method
    if before != plan.stage.method:
        sink.log(f"{name}: the loss of {plan.stage.method} has another formula than that of {before};")
        sink.log("  do not compare their values")
    earlier = {stage: network_from(load_checkpoint(path), path) for stage, path in plan.takes.items()}
    parts = (plan.stage, plan.config, plan.store, run, sink, precision)
    trainer = Trainer(*parts, samples, plan.initial, earlier)
    chosen: dict[str, str | int] = {
        "device": str(device),
        "processes": str(world.size),
        "precision": precision.name,
        "float32": float32,
        "threads": number,
        "threads_reason": threads.reason,
    }
    if world.is_main:
        write_text(run / "config.yaml", plan.config.to_yaml())
        write_environment(run, chosen)
    return trainer.fit()


def _checkpoints(run: Path, stage: str) -> tuple[Path, Path, Path]:
    """Return the paths of a stage's result, of its latest state and, during training, of its best epoch."""
    return run / f"{stage}.pt", run / f"{stage}-last.pt", run / f"{stage}-best.pt"


def _subset(plan: Plan, precision: Precision, sink: Output) -> np.ndarray | None:
    """Return the positions of the training samples that `adapt.only` selects; None for all."""
    if plan.config.adapt.only == "all":
        return None
    if plan.config.adapt.only == "balanced":
        return _purified(plan, precision, sink)
    train = plan.store.indices("train")
    kept = listed_samples(Path(plan.config.adapt.only), plan.store)
    sink.log(f"adapt: training on the {len(kept)} listed of {len(train)} samples")
    return kept


def _purified(plan: Plan, precision: Precision, sink: Output) -> np.ndarray:
    """Return the positions of the training samples that the warm-up's mixture calls balanced."""
    assert plan.initial is not None
    model = open_trained(plan.initial[0], precision.device, plan.store.path)
    gap = model.scores("train", plan.config.gap.scores).gap
    mixture, warnings = fit_mixture(gap, plan.config.gap)
    for warning in warnings:
        sink.warn(warning)
    train = plan.store.indices("train")
    kept = train[mixture.posterior(gap) < plan.config.adapt.threshold]
    sink.log(f"adapt: training on the {len(kept)} balanced of {len(train)} samples")
    if len(kept) < 2:
        raise UsageError(
            f"--only balanced: fewer than two samples have a posterior under {plan.config.adapt.threshold}.",
            "Raise --threshold.",
        )
    return kept


def _parent_digest(checkpoint: Path, only: str, store: Store) -> str:
    """Return a hash of the checkpoint that the stage starts from and of the samples that a list names."""
    digest = hashlib.sha256(checkpoint.read_bytes())
    if only not in ("all", "balanced"):
        digest.update(listed_samples(Path(only), store).tobytes())
    return digest.hexdigest()


def _checked(method: str, config: Config, store: Store) -> Config:
    """Check a stage; return its settings with the store's protocol and the method's own settings.

    Raises UsageError if the method does not fit the network, a tracker is not installed, or the batch size
    does not divide among the processes.
    """
    config = dataclasses.replace(config, data=store.data_config)  # the protocol is that of the store
    # Every checkpoint has the settings of both stages, so `adapt` finds its settings in the warm-up.
    stages = (method, config.warmup.method, config.adapt.method)
    config = config.with_methods(load_method(name).name for name in stages)
    config = with_required_model(load_method(method), config)
    build_task(config, method, len(store.classes), len(store.ids), store.modalities)
    if config.runtime.report_to != "none":
        package(config.runtime.report_to)
    batch, count = config.train.batch_size, processes.size()
    if batch % count:
        raise UsageError(
            f"--batch-size {batch} does not divide among {count} processes.",
            f"It counts the samples of all processes together: try {-(-batch // count) * count}.",
        )
    return config


def _refuse_other_configuration(path: Path, there: Checkpoint, plan: Plan) -> None:
    stage = plan.stage
    sections = deciding_sections(stage.name, stage.method, plan.config)
    differing = differing_keys(there.config, plan.config, sections)
    reasons = []
    if there.store.fingerprint != plan.store.fingerprint:
        reasons.append("on another store")
    if there.parent_digest != plan.stage.parent_digest:
        reasons.append("from another checkpoint of an earlier stage, or another list of samples")
    if differing:
        reasons.append(f"with {_differences(differing)}")
    if reasons:
        raise UsageError(
            f"{path} was trained {'; '.join(reasons)}.",
            "Choose another folder with -o, or give --force to train it again.",
        )


def _differences(keys: dict[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{key}={old!r} (this command asks for {new!r})" for key, (old, new) in keys.items())
