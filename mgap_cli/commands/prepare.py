"""`mgap prepare`: turn a published data set into a store."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mgap_cli import config as configuration
from mgap_cli.commands import _options as options
from mgap_cli.config import Config
from mgap_cli.errors import UsageError
from mgap_cli.output import Output
from mgap_cli.processes import refuse_many

if TYPE_CHECKING:
    from mgap_cli.data.clips import Dataset


@options.with_settings(
    {
        "seed": options.setting(
            "data.seed", int, "Random seed of the splits and of the data set digits.", panel=options.SOURCE
        )
    }
)
def prepare(
    dataset: Annotated[
        str,
        typer.Argument(
            help="digits, manifest, features, cremad, ave or kinetics-sounds.", show_default=False
        ),
    ],
    given: options.Given,
    root: Annotated[
        Path | None,
        typer.Argument(
            help="Its folder (manifest and features: the file); digits needs none.", show_default=False
        ),
    ] = None,
    output: options.StoreFolder = None,
    label: options.Label = None,
    split: options.Split = None,
    segment: options.Segment = None,
    keep_leaks: options.KeepLeaks = False,
    strict: options.Strict = False,
    allow_skips: options.AllowSkips = False,
    modalities: options.Modalities = None,
    variant: options.Variant = None,
    preset: options.Preset = None,
    workers: options.Workers = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Turn a published data set into a store; prints the store's path.

    If it is interrupted, run the same command again: it continues.
    """
    from mgap_cli.data.prepare.build import build_store
    from mgap_cli.data.sources import load_dataset
    from mgap_cli.report.documents import path_document

    refuse_many("prepare", "Run it without torchrun.")
    sink = Output(json, quiet)
    resolved = given.over(base_settings(preset, dataset)).data
    loaded = load_dataset(
        dataset,
        root,
        resolved,
        label=label,
        **split_option(split or []),
        segment=segment,
        keep_leaks=keep_leaks,
        strict=strict,
        modalities=[name.strip() for name in (modalities or "").split(",") if name.strip()],
        variant=variant,
    )
    loaded = with_preset(loaded, preset, dataset)
    folder = output or Path("mgap-data") / (preset or dataset)
    store = build_store(loaded, resolved, folder, sink, workers=workers, force=force, allow_skips=allow_skips)
    sink.result(path_document("prepare", store.path, fingerprint=store.fingerprint), store.path)


def base_settings(preset: str | None, dataset: str) -> Config:
    """Return the settings of a preset, by default the data set's own; UsageError for an unknown preset."""
    return configuration.require_preset(preset) if preset else configuration.preset(dataset)


def with_preset(loaded: Dataset, preset: str | None, dataset: str) -> Dataset:
    """Return a data set whose store will record the preset, unless it is that of `dataset`, its own name."""
    if not preset or preset == dataset:
        return loaded
    return dataclasses.replace(loaded, options={**loaded.options, "preset": preset})


def split_option(words: list[str]) -> dict[str, Any]:
    """Separate the values of `--split` into the name of a split of mgap and the literature's files."""
    named = [word for word in words if word in ("random", "speaker")]
    if len(words) > 1 and named:
        raise UsageError(
            f"--split {named[0]}: give no other --split beside it.",
            "Give either this word alone, or only files.",
        )
    return {"split": named[0]} if named else {"split_files": [Path(word) for word in words]}
