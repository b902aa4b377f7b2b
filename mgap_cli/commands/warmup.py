"""`mgap warmup`: train both branches jointly, without intervention."""

from __future__ import annotations

from mgap_cli import config as configuration
from mgap_cli.commands import _options as options
from mgap_cli.commands._stage import default_run, run_stage
from mgap_cli.output import Sink


def warmup(
    store: options.StoreArgument,
    run: options.RunDir = None,
    method: options.Method = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    lr: options.LearningRate = None,
    optimizer: options.Optimizer = None,
    schedule: options.Schedule = None,
    clip_norm: options.ClipNorm = None,
    select: options.Select = None,
    encoder: options.Encoder = None,
    fusion: options.Fusion = None,
    seed: options.Seed = None,
    device: options.Device = None,
    precision: options.Precision = None,
    sync_bn: options.SyncBn = None,
    tf32: options.Tf32 = None,
    deterministic: options.Deterministic = None,
    compile: options.Compile = None,
    report_to: options.ReportTo = None,
    config: options.ConfigFile = None,
    sets: options.Set = None,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train both branches jointly, without intervention; prints the checkpoint's path.

    Settings that are not given come from the data set's preset. The same line run again goes on where
    it stopped, and a finished warm-up returns at once.
    """
    from mgap_cli.data.store import open_store
    from mgap_cli.workflow.stages import plan_warmup

    sink = Sink(json, quiet)
    opened = open_store(store)
    resolved = configuration.resolve(
        configuration.preset(opened.name),
        file=config,
        sets=sets or (),
        flags={
            "warmup.method": method,
            "warmup.epochs": epochs,
            "train.batch_size": batch_size,
            "train.lr": lr,
            "train.optimizer": optimizer,
            "train.schedule": schedule,
            "train.clip_norm": clip_norm,
            "train.select": select,
            "train.seed": seed,
            "model.encoder": encoder,
            "model.fusion": fusion,
            "runtime.device": device,
            "runtime.precision": precision,
            "runtime.sync_bn": sync_bn,
            "runtime.float32": options.float32(tf32),
            "runtime.deterministic": deterministic,
            "runtime.compile": compile,
            "runtime.report_to": report_to,
        },
    )
    plan = plan_warmup(opened, resolved, run or default_run(store, resolved))
    chosen, epochs_of_stage, budget = resolved.warmup.method, plan.stage.epochs, resolved.train.epochs
    if chosen != configuration.WarmupConfig.method and epochs_of_stage < budget:
        sink.warn(
            f"warmup trains {chosen} for warmup.epochs={epochs_of_stage} of the train.epochs={budget} epochs; "
            f"`mgap train {store} --method {chosen}` trains the whole budget."
        )
    run_stage(plan, sink, force=force, dry_run=dry_run)
