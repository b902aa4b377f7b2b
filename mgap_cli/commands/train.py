"""`mgap train`: any method, by its own recipe, for the whole budget of epochs."""

from __future__ import annotations

from typing import Annotated

import typer

from mgap_cli import config as configuration
from mgap_cli.commands import _options as options
from mgap_cli.commands._stage import default_run
from mgap_cli.output import Sink


def train(
    store: options.StoreArgument,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            metavar="NAME|FILE.py:CLASS",
            help=options.METHOD_HELP,
            show_default=False,
            rich_help_panel="Training",
        ),
    ],
    run: options.RunDir = None,
    budget: Annotated[
        int | None,
        typer.Option(
            "--epochs",
            help="Epochs of the whole budget, all stages together.",
            show_default=False,
            rich_help_panel="Training",
        ),
    ] = None,
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
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train any method by its own recipe for the whole budget; prints the checkpoint's path.

    Settings that are not given come from the data set's preset. The same line run again continues where it
    stopped, and a finished training returns at once.
    """
    from mgap_cli.data.store import open_store
    from mgap_cli.methods import load_method
    from mgap_cli.report.documents import path_document
    from mgap_cli.workflow.stages import train as train_method

    sink = Sink(json, quiet)
    opened = open_store(store)
    load_method(method)  # an unknown one is refused before its settings are
    resolved = configuration.resolve(
        configuration.preset(opened.name),
        file=config,
        sets=sets or (),
        flags={
            "train.epochs": budget,
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
    folder = run or default_run(store, resolved)
    checkpoint = train_method(method, opened, resolved, folder, sink, force)
    sink.result(path_document("train", checkpoint, run=str(folder)), checkpoint)
