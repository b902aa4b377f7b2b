"""`mgap prepare`: turn a data set as published into a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mgap_cli import config as configuration
from mgap_cli import options
from mgap_cli.console import Sink

_DATA = "Data set"


def prepare(
    dataset: Annotated[
        str, typer.Argument(help="digits, manifest, cremad, ave or kinetics-sounds.", show_default=False)
    ],
    root: Annotated[
        Path | None,
        typer.Argument(help="Its folder (manifest: the CSV file); digits needs none.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Store folder.", show_default="mgap-data/<dataset>")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="The manifest's label column.", rich_help_panel=_DATA)
    ] = None,
    split: Annotated[
        list[Path] | None,
        typer.Option(
            "--split", help="A split file of the literature (cremad); repeatable.", rich_help_panel=_DATA
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of splits that we draw, and of digits.", show_default="0")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes.", show_default="all cores")] = None,
    allow_skips: Annotated[
        bool, typer.Option("--allow-skips", help="Go on though more than 5 % of the clips are unreadable.")
    ] = False,
    config: options.ConfigFile = None,
    sets: options.Set = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Turn a data set as published into a store; prints the store's path.

    Killed and started again, it goes on where it was.
    """
    from mgap_cli.data.build import build_store
    from mgap_cli.data.sources import load_dataset
    from mgap_cli.report.document import path_document

    sink = Sink(json, quiet)
    resolved = configuration.resolve(
        configuration.preset(dataset), file=config, sets=sets or (), flags={"data.seed": seed}
    ).data
    loaded = load_dataset(dataset, root, resolved, label=label, split_files=split or ())
    folder = out or Path("mgap-data") / dataset
    store = build_store(loaded, resolved, folder, sink, workers=workers, force=force, allow_skips=allow_skips)
    sink.result(path_document("prepare", store.path, fingerprint=store.fingerprint), store.path)
