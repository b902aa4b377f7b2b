"""The Typer app: the commands, and how a wrong command line is reported."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from mgap_cli import __version__
from mgap_cli.commands.adapt import adapt
from mgap_cli.commands.analyze_gap import analyze_gap
from mgap_cli.commands.compare import compare
from mgap_cli.commands.docs import docs
from mgap_cli.commands.doctor import doctor
from mgap_cli.commands.evaluate import evaluate
from mgap_cli.commands.export import export
from mgap_cli.commands.inspect import inspect
from mgap_cli.commands.list import list_
from mgap_cli.commands.prepare import prepare
from mgap_cli.commands.report import report
from mgap_cli.commands.run import run
from mgap_cli.commands.train import train
from mgap_cli.commands.warmup import warmup
from mgap_cli.errors import ExitCode, UsageError

# The base of what Typer raises for a wrong command line. Only its subclasses are public.
_CommandLineError: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


class _Command(TyperCommand):
    """A command that refuses an empty value: an empty path would otherwise mean the working folder."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for i, word in enumerate(args):
            if word == "" or re.fullmatch("--[a-z-]+=", word):
                option = word[:-1] or (args[i - 1] if i and args[i - 1].startswith("-") else "")
                raise UsageError(
                    f"{option or 'an argument of ' + ctx.command_path}: the value is empty.",
                    "Give a value, or leave it out. Is a variable of your shell script not set?",
                )
        return list(super().parse_args(ctx, args))


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
    """Measure modality imbalance in multimodal classifiers, per sample, and reduce it."""


for command in (prepare, inspect, train, warmup, analyze_gap, adapt, evaluate, export, report, run, compare):
    app.command(cls=_Command)(command)
app.command("list", cls=_Command)(list_)
app.command(cls=_Command)(docs)
app.command(cls=_Command)(doctor)


def start() -> int:
    """Run the command that the command line names, and return its exit code.

    Raises UsageError for a wrong command line, KeyboardInterrupt for Ctrl-C, and what the command raises.
    """
    if not os.environ.get("TERMINAL_WIDTH", "80").isdecimal():  # Typer reads it
        raise UsageError("environment: TERMINAL_WIDTH must be a number of columns.", "Unset it.")
    try:
        code = int(app(prog_name="mgap", standalone_mode=False) or ExitCode.DONE)
        if code == ExitCode.INTERRUPTED:  # Typer raises this for Ctrl-C
            raise KeyboardInterrupt
        return code
    except typer.Abort:
        raise KeyboardInterrupt from None
    except _CommandLineError as error:
        message = " ".join(error.format_message().split())
        if not message:  # without a command: the help has been printed
            return int(error.exit_code)
        context = getattr(error, "ctx", None)
        hint = f"See `{context.command_path} --help`." if context else ""
        raise UsageError(message if message.endswith((".", ")", "?")) else f"{message}.", hint) from error
