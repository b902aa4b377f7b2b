"""`mgap inspect`: show the contents of a store, and check that it is as `prepare` made it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mgap_cli.commands import _options as options
from mgap_cli.errors import UsageError
from mgap_cli.output import Output
from mgap_cli.processes import refuse_many

if TYPE_CHECKING:
    from mgap_cli.data.store import Store


def inspect(
    store: options.StoreArgument,
    plot: Annotated[
        bool, typer.Option("--plot", help="Draw a contact sheet as a PNG file: frames and spectrograms.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read the whole store and compare it with its fingerprint.")
    ] = False,
    output: options.ContactSheet = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show what is in a store: counts, leakage between splits, skipped clips, protocol, size.

    With --verify the exit code is 3 unless every byte of the store is as `mgap prepare` wrote it.
    """
    from mgap_cli.data.store import open_store
    from mgap_cli.data.summary import summarise
    from mgap_cli.data.verification import require_intact
    from mgap_cli.files import ensure_output_allowed
    from mgap_cli.modalities.audio_visual import AUDIO_VISUAL
    from mgap_cli.report.documents import store_document
    from mgap_cli.report.layout import size
    from mgap_cli.report.tables import store as tables

    refuse_many("inspect", "Run it without torchrun.")
    sink = Output(json, quiet)
    if output is not None and (not plot or output.suffix.lower() != ".png"):
        raise UsageError(f"-o {output}: -o is the .png file of --plot, so give both options and this suffix.")
    png = (output or _beside(store)) if plot else None
    if png is not None:
        ensure_output_allowed(png)
    opened = open_store(store)
    if plot and opened.modalities != AUDIO_VISUAL:
        raise UsageError(f"{store}: --plot draws frames and spectrograms, but this store has neither.")
    summary = summarise(opened)
    if verify:
        sink.log(f"reading {size(sum(summary.bytes.values()))} ...")
        require_intact(opened)
    if png is not None:
        draw(opened, png, sink)
    sink.result(
        store_document(summary, verify, png),
        tables.overview_table(summary, verify),
        tables.split_table(summary),
        tables.class_table(summary),
        tables.group_table(summary),
        tables.leak_table(summary),
        tables.skip_table(summary),
    )


def draw(store: Store, png: Path, sink: Output) -> None:
    """Write the contact sheet of a store."""
    from mgap_cli.report.figures.contact_sheet import contact_sheet, sampled_rows
    from mgap_cli.report.figures.gap import write_png

    write_png(contact_sheet(store, sampled_rows(store)), png, sink)


def _beside(store: Path) -> Path:
    """Return where the contact sheet of a store goes: beside it, under its name."""
    folder = store.parent if store.name not in ("", "..") else store.resolve().parent
    return folder / f"{store.resolve().name}-clips.png"
