"""`mgap adapt`: go on from a warm-up with the posterior-weighted loss."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mgap_cli import config as configuration
from mgap_cli.commands import _options as options
from mgap_cli.commands._stage import run_stage
from mgap_cli.output import Sink


def _coefficient(help: str, *names: str) -> Any:
    return typer.Option(*names, help=help, show_default=False, rich_help_panel="Adaptive loss")


def adapt(
    checkpoint: options.Checkpoint,
    run: Annotated[
        Path | None, typer.Option("-o", "--run", help="Run folder.", show_default="the checkpoint's")
    ] = None,
    store: options.StoreOption = None,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="all|balanced|FILE",
            help="balanced: fine-tune on balanced samples alone; or on those that a list names, "
            "as analyze-gap --export writes it.",
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Posterior under which a sample is balanced.", show_default=False)
    ] = None,
    method: options.Method = None,
    alpha: Annotated[float | None, _coefficient("Fusion's preference for balanced samples.")] = None,
    beta: Annotated[float | None, _coefficient("Extra weight of imbalanced samples in the gap term.")] = None,
    lambda_gap: Annotated[float | None, _coefficient("Weight of the gap term.")] = None,
    lambda_shift: Annotated[float | None, _coefficient("Weight of the shift term.")] = None,
    gap_scale: Annotated[
        configuration.GapScale | None,
        _coefficient("What the gap term measures gaps in: log or probability.", "--gap-scale"),
    ] = None,
    stop_gradient: Annotated[
        configuration.StopGradient | None,
        _coefficient("leading: the gap term trains the lagging modality only; or none."),
    ] = None,
    shift: Annotated[
        configuration.Shift | None, _coefficient("Form of the shift term: squared or kl.")
    ] = None,
    scores: Annotated[
        configuration.ScoreSource | None, _coefficient("What the mixture is refitted on: pass or online.")
    ] = None,
    refit_every: Annotated[int | None, _coefficient("Epochs between refits.")] = None,
    gap_kind: Annotated[
        configuration.GapKind | None, _coefficient("Mixture over absolute or signed gaps.", "--gap-kind")
    ] = None,
    components: Annotated[int | None, _coefficient("Components of the mixture.")] = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    lr: options.LearningRate = None,
    optimizer: options.Optimizer = None,
    schedule: options.Schedule = None,
    clip_norm: options.ClipNorm = None,
    select: options.Select = None,
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
    """Train the imbalance away, from a warm-up checkpoint; prints the new checkpoint's path.

    Settings that are not given are those that the warm-up was trained with.
    """
    from mgap_cli.runs.checkpoint import config_of
    from mgap_cli.workflow.stages import open_for_adapt, plan_adapt

    sink = Sink(json, quiet)
    if only and Path(only).is_file():
        only = str(Path(only).resolve())  # the run folder remembers it, wherever it is run from next
    content, opened = open_for_adapt(checkpoint, store)
    resolved = configuration.resolve(
        config_of(content, checkpoint),
        file=config,
        sets=sets or (),
        flags={
            "adapt.only": only,
            "adapt.threshold": threshold,
            "adapt.method": method,
            "adapt.epochs": epochs,
            "adaptive.alpha": alpha,
            "adaptive.beta": beta,
            "adaptive.lambda_gap": lambda_gap,
            "adaptive.lambda_shift": lambda_shift,
            "adaptive.gap_scale": gap_scale,
            "adaptive.stop_gradient": stop_gradient,
            "adaptive.shift": shift,
            "adaptive.scores": scores,
            "adaptive.refit_every": refit_every,
            "gap.kind": gap_kind,
            "gap.components": components,
            "train.batch_size": batch_size,
            "train.lr": lr,
            "train.optimizer": optimizer,
            "train.schedule": schedule,
            "train.clip_norm": clip_norm,
            "train.select": select,
            "train.seed": seed,
            "runtime.device": device,
            "runtime.precision": precision,
            "runtime.sync_bn": sync_bn,
            "runtime.float32": options.float32(tf32),
            "runtime.deterministic": deterministic,
            "runtime.compile": compile,
            "runtime.report_to": report_to,
        },
    )
    plan = plan_adapt(checkpoint, content, opened, resolved, run or checkpoint.parent)
    run_stage(plan, sink, force=force, dry_run=dry_run)
