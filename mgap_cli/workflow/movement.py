"""The gap over time: the part of `analyze-gap` for a run folder or for several checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mgap_cli.config import Config
from mgap_cli.errors import UnfitError, UsageError
from mgap_cli.output import Output
from mgap_cli.report.schemas import schema


def history(run: Path, *, plot: bool, sink: Output, output: Path | None = None) -> None:
    """Show each epoch's mixture and accuracies of a run folder, as a table and a plot.

    output: the folder of the plot; None for the run folder.

    Raises UsageError unless it is a folder, UnfitError for a folder in which nothing was trained.
    """
    from mgap_cli.files import MALFORMED, damaged, ensure_output_allowed
    from mgap_cli.report.tables.movement import history_tables
    from mgap_cli.runs.layout import read_metrics

    if run.is_file():
        raise UsageError(f"{run}: --history needs a run folder.", f"mgap analyze-gap {run.parent} --history")
    png = (output or run) / "history.png"
    if plot:
        ensure_output_allowed(png)
    entries = read_metrics(run)
    if not entries:
        what = "nothing was trained there" if run.is_dir() else "no such run folder"
        raise UnfitError(
            f"{run}: {what}: there is no metrics.jsonl.", "Give the folder of mgap warmup or adapt."
        )
    try:
        tables, drawn = history_tables(entries), None
        if plot:
            from mgap_cli.report.figures.history import history_figure

            drawn = history_figure(entries, run.resolve().name)
    except MALFORMED as error:
        raise damaged(run / "metrics.jsonl", error) from error
    if drawn is not None:
        from mgap_cli.report.figures.gap import write_png

        write_png(drawn, png, sink)
    sink.result({"schema": schema("history"), "run": str(run), "epochs": entries}, *tables)


def movement(
    checkpoints: list[Path],
    *,
    split: str,
    store: Path | None,
    config: Config,
    top: int,
    plot: bool,
    sink: Output,
    csv: Path | None = None,
    inputs: Sequence[Path] = (),
    output: Path | None = None,
) -> None:
    """Show which samples moved from imbalanced to balanced, and which did not.

    config: the first checkpoint's settings, changed by the command line. inputs: every file that the command
    reads. The function writes movement.json and movement.csv (or `csv`) in `output`, or beside the last
    checkpoint. Raises UnfitError unless all checkpoints were trained on the same store.
    """
    from mgap_cli.analysis.movement import movement_of
    from mgap_cli.files import ensure_outputs_allowed, write_json_once, write_text_once
    from mgap_cli.report.documents import movement_csv, movement_document
    from mgap_cli.report.tables.movement import movement_tables
    from mgap_cli.training.device import choose_scoring_device
    from mgap_cli.training.distributed import writing
    from mgap_cli.training.trained_model import open_trained

    folder = output or checkpoints[-1].parent
    table, document, png = csv or folder / "movement.csv", folder / "movement.json", folder / "movement.png"
    ensure_outputs_allowed([table, document, *([png] if plot else [])], inputs)
    device = choose_scoring_device(config.runtime, sink)
    models = [open_trained(path, device, store, config.runtime.eval_batch_size) for path in checkpoints]
    first = models[0]
    for model in models[1:]:
        if model.store.fingerprint != first.store.fingerprint:
            raise UnfitError(
                f"{model.path}: trained on another data set ({model.store.name}) than {first.path} "
                f"({first.store.name}): which samples moved cannot be determined.",
                "Give checkpoints that were trained on the same store.",
            )
    with writing(folder, config.runtime.device, sink):
        moved = movement_of(names_of(checkpoints), [model.scores(split) for model in models], split, config)
        for name, fit in zip(moved.names, moved.fits, strict=True):
            for warning in fit.warnings:
                sink.warn(f"{name}: {warning}")
        digests = {str(model.path): model.digest for model in models}
        summary = movement_document(moved, digests)
        write_text_once(table, movement_csv(moved))
        write_json_once(document, summary)
        if plot:
            from mgap_cli.report.figures.gap import write_png
            from mgap_cli.report.figures.movement import movement_figure

            write_png(movement_figure(moved), png, sink)
    sink.result(summary, *movement_tables(moved, top))


def names_of(checkpoints: list[Path]) -> list[str]:
    """Return names that differ between checkpoints: the file's name, folder and name, or the whole path."""
    stems = [path.stem for path in checkpoints]
    longer = [f"{path.resolve().parent.name}/{path.stem}" for path in checkpoints]
    for names in (stems, longer):
        if len({*names}) == len(names):
            return names
    return [str(path) for path in checkpoints]
