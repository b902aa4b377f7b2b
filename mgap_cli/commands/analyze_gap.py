"""`mgap analyze-gap`: each sample's modality gap, and the mixture that splits balanced from imbalanced."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mgap_cli import config as configuration
from mgap_cli import options
from mgap_cli.console import Sink

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mgap_cli.config import GapConfig
    from mgap_cli.gap.mixture import GapFit
    from mgap_cli.training.restore import TrainedModel


def analyze_gap(
    checkpoint: options.Checkpoint,
    split: Annotated[str, typer.Option(help="Split to analyse: train, val or test.")] = "train",
    top: Annotated[int, typer.Option(min=0, help="Samples to list, most imbalanced first.")] = 20,
    plot: Annotated[bool, typer.Option("--plot", help="Write gap.png, and draw it at a terminal.")] = False,
    csv: Annotated[
        Path | None, typer.Option(help="Where the per-sample table goes.", show_default="gap.csv beside it")
    ] = None,
    store: options.StoreOption = None,
    kind: Annotated[
        configuration.GapKind | None,
        typer.Option(
            "--gap-kind", help="Mixture over |gap| or signed gaps.", show_default="the checkpoint's"
        ),
    ] = None,
    components: Annotated[
        int | None, typer.Option(help="Components of the mixture.", show_default="the checkpoint's")
    ] = None,
    device: options.Device = None,
    config: options.ConfigFile = None,
    sets: options.Set = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure each sample's modality gap and split balanced from imbalanced ones.

    Writes gap.csv (and with --plot gap.png) beside the checkpoint. The other splits stand beside the
    chosen one: once both branches memorise the training split its gaps shrink, and held-out ones do not.
    """
    from mgap_cli.report import tables
    from mgap_cli.report.document import gap_document
    from mgap_cli.training.checkpoint import config_of, load_checkpoint
    from mgap_cli.training.device import choose_device
    from mgap_cli.training.restore import open_trained

    sink = Sink(json, quiet)
    resolved = configuration.resolve(
        config_of(load_checkpoint(checkpoint), checkpoint),
        file=config,
        sets=sets or (),
        flags={"gap.kind": kind, "gap.components": components, "runtime.device": device},
    )
    model = open_trained(checkpoint, choose_device(resolved.runtime.device, sink), store)
    fits = analyse_and_keep(model, split, resolved.gap, sink, csv, plot)
    fit = fits[split]
    shown = [
        *overview(fits, split),
        tables.class_table(fit, split),
        tables.lead_table(fit, split),
        *([tables.posterior_table(fit, top, split)] if top else []),
    ]
    if plot and sys.stdout.isatty():
        from mgap_cli.report.terminal import GapPlot

        shown.append(GapPlot(fit, split))
    sink.result(gap_document(checkpoint, split, fits), *shown)


def analyse_and_keep(
    model: TrainedModel,
    split: str,
    config: GapConfig,
    sink: Sink,
    csv: Path | None = None,
    plot: bool = False,
) -> dict[str, GapFit]:
    """Analyse `split`, with train and val beside it; and leave gap.csv, gap.json, gap.png."""
    from mgap_cli.gap.mixture import analyse
    from mgap_cli.report.document import gap_csv, gap_summary
    from mgap_cli.rundir import atomic_write, write_json, write_text

    present = [s for s in ("train", "val") if s == split or (model.store.splits == s).any()]
    names = present if split in present else [*present, split]
    fits = {name: analyse(model.scores(name), config) for name in names}
    for warning in fits[split].warnings:
        sink.warn(f"{split}: {warning}")
    folder = model.path.parent
    write_text(csv or folder / "gap.csv", gap_csv(fits[split]))
    write_json(folder / "gap.json", gap_summary(model.path, split, fits))
    if plot:
        from mgap_cli.report.plots import gap_figure, png_bytes

        with atomic_write(folder / "gap.png") as file:
            file.write(png_bytes(gap_figure(fits[split], split)))
        sink.log(f"wrote {folder / 'gap.png'}")
    return fits


def overview(fits: dict[str, GapFit], split: str) -> list[RenderableType]:
    """Return the tables of components and diagnostics, and the splits side by side."""
    from mgap_cli.report import tables

    fit = fits[split]
    return [
        tables.component_table(fit, split),
        tables.diagnostics_table(fit, split),
        tables.split_table(list(fits.items())),
    ]
