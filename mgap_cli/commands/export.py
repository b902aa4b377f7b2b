"""`mgap export`: write the predictions of every head for each sample to a file for other programs."""

from __future__ import annotations

from typing import Annotated

import typer

from mgap_cli import config as configuration
from mgap_cli.commands import _options as options
from mgap_cli.output import Output


@options.with_settings(options.DECISION, options.DEVICE)
def export(
    checkpoint: options.Checkpoint,
    output: options.PredictionFile,
    given: options.Given,
    split: Annotated[str, typer.Option(help="Split to export.")] = "test",
    store: options.StoreOption = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write the probabilities of every head for each sample of a split; prints the file's path.

    Each sample has one row with its id and label, the probabilities of all classes by each head, and the
    decision of the rule with its name. `mgap analyze-gap FILE --modalities audio,visual` reads the file.
    """
    from mgap_cli.runs.run_checkpoints import checkpoint_in
    from mgap_cli.workflow.export import export_predictions

    sink = Output(json, quiet)
    resolved = given.over(configuration.Config())
    taken = checkpoint_in(checkpoint, sink)
    sink.result(export_predictions(taken, output, split, resolved, store, sink), output)
