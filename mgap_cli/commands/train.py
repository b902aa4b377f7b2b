"""`mgap train`: train any method by its own recipe for the whole budget of epochs."""

from __future__ import annotations

from typing import Annotated

import typer

from mgap_cli import config as configuration
from mgap_cli import methods
from mgap_cli.commands import _options as options
from mgap_cli.commands._stage import default_run, print_plan
from mgap_cli.output import Output


@options.with_settings(
    options.BUDGET,
    options.OPTIMISATION,
    options.NETWORK,
    options.MACHINE,
)
def train(
    store: options.StoreArgument,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            metavar=options.NAME_OR_FILE,
            help=options.METHOD_HELP,
            show_default=False,
            rich_help_panel=options.TRAINING,
            autocompletion=methods.names,
        ),
    ],
    given: options.Given,
    output: options.RunFolder = None,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train any method by its own recipe for the whole budget; prints the checkpoint's path.

    Settings that are not given come from the data set's preset. If it is interrupted, run the same
    command again: it continues. A finished training returns at once. --dry-run shows the first stage.
    """
    from mgap_cli.data.store import open_store
    from mgap_cli.methods import load_method
    from mgap_cli.report.documents import path_document
    from mgap_cli.workflow.stages import first_plan
    from mgap_cli.workflow.stages import train as train_method

    sink = Output(json, quiet)
    opened = open_store(store)
    load_method(method)  # the method's settings are known from here on
    resolved = given.over(configuration.preset(opened.preset))
    folder = output or default_run(store, resolved)
    if dry_run:
        print_plan(first_plan(method, opened, resolved, folder), sink)
        return
    checkpoint = train_method(method, opened, resolved, folder, sink, force)
    sink.result(path_document("train", checkpoint, run=str(folder)), checkpoint)
