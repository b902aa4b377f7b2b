"""`mgap evaluate`: the accuracy of every head with its uncertainty, and differences between methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mgap_cli import config as configuration
from mgap_cli.commands import _options as options
from mgap_cli.output import Output


@options.with_settings(options.DECISION, options.DEVICE)
def evaluate(
    checkpoints: Annotated[list[Path], typer.Argument(help=options.CHECKPOINT_HELP, show_default=False)],
    given: options.Given,
    split: Annotated[str, typer.Option(help="Split to evaluate on.")] = "test",
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Also show accuracy by a column of clips.csv, such as group; repeatable.",
            show_default=False,
        ),
    ] = None,
    robustness: Annotated[
        bool,
        typer.Option(
            "--robustness",
            help="Also show accuracy under noise, occlusion and a missing modality: a table and a PNG file.",
        ),
    ] = False,
    plot: Annotated[
        bool,
        typer.Option(
            "--plot",
            help="Draw each checkpoint's confusion matrices and reliability diagram, as PNG files beside it.",
        ),
    ] = False,
    output: options.OutputFolder = None,
    store: options.StoreOption = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Evaluate checkpoints on all of the test set; with several, compare each with the first.

    For several seeds of a method (same stage, method and settings) it shows the mean and standard deviation,
    and it compares methods with the first one by seed. It writes evaluate.json beside the last checkpoint. A
    stage's -last.pt and -best.pt are left out if the stage's checkpoint is given, too.
    """
    from mgap_cli.workflow.evaluation import EvaluationRequest, evaluate_checkpoints

    sink = Output(json, quiet)
    request = EvaluationRequest(split, tuple(by or ()), robustness, plot, output)
    resolved = given.over(configuration.Config())
    document, shown = evaluate_checkpoints(checkpoints, request, resolved, store, sink, given.file)
    sink.result(document, *shown)
