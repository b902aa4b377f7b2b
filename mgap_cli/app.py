"""The Typer app: commands registered, no logic."""

from __future__ import annotations

from typing import Annotated

import typer

from mgap_cli import __version__
from mgap_cli.commands.adapt import adapt
from mgap_cli.commands.analyze_gap import analyze_gap
from mgap_cli.commands.evaluate import evaluate
from mgap_cli.commands.inspect import inspect
from mgap_cli.commands.prepare import prepare
from mgap_cli.commands.report import report
from mgap_cli.commands.run import run
from mgap_cli.commands.warmup import warmup

app = typer.Typer(
    name="mgap",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"mgap {__version__}")
        raise typer.Exit


@app.callback()
def mgap(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="MGAP_DEBUG", help="Show the traceback of an error.")
    ] = False,
) -> None:
    """Measure modality imbalance in audio-visual classifiers, sample by sample, and train it away."""


for command in (prepare, inspect, warmup, analyze_gap, adapt, evaluate, report, run):
    app.command()(command)
