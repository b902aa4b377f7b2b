"""`mgap evaluate`: what came of it, fused and by modality, with uncertainty."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mgap_cli import config as configuration
from mgap_cli import options
from mgap_cli.console import Sink

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mgap_cli.config import EvaluateConfig
    from mgap_cli.training.restore import TrainedModel


def evaluate(
    checkpoints: Annotated[list[Path], typer.Argument(help="One or more .pt files.", show_default=False)],
    split: Annotated[str, typer.Option(help="Split to evaluate on.")] = "test",
    store: options.StoreOption = None,
    device: options.Device = None,
    config: options.ConfigFile = None,
    sets: options.Set = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Evaluate checkpoints on all of the test set; with several, compare each with the first.

    Writes evaluate.json beside the last one.
    """
    from mgap_cli.training.device import choose_device
    from mgap_cli.training.restore import open_trained

    sink = Sink(json, quiet)
    flags = {"runtime.device": device}
    resolved = configuration.resolve(configuration.Config(), file=config, sets=sets or (), flags=flags)
    chosen = choose_device(resolved.runtime.device, sink)
    models = [open_trained(path, chosen, store) for path in checkpoints]
    document, shown = judge(models, split, resolved.evaluate)
    sink.result(document, *shown)


def judge(
    models: list[TrainedModel], split: str, config: EvaluateConfig
) -> tuple[dict[str, Any], list[RenderableType]]:
    """Evaluate models; leave evaluate.json beside the last, and return the document and the tables."""
    from mgap_cli.evaluation.evaluate import compare_with_first, evaluate
    from mgap_cli.report import tables
    from mgap_cli.report.document import evaluation_document
    from mgap_cli.rundir import write_json

    evaluations = evaluate(models, split, config)
    comparisons = compare_with_first(evaluations, config)
    document = evaluation_document(evaluations, comparisons)
    write_json(models[-1].path.parent / "evaluate.json", document)
    shown = [tables.evaluation_table(evaluations)]
    if comparisons:
        shown.append(tables.comparison_table(comparisons))
    return document, [*shown, tables.per_class_table(evaluations)]
