"""`mgap compare`: methods on stores with several seeds, and whether their difference is real."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mgap_cli import config as configuration
from mgap_cli import methods as all_methods
from mgap_cli.commands import _options as options
from mgap_cli.comparison.plan import DEFAULT_METRIC, DEFAULT_SEEDS
from mgap_cli.comparison.slurm_request import (
    DEFAULT_TIME_LIMIT,
    SlurmRequest,
    minutes_of,
    require_for_slurm,
    sbatch_options,
)
from mgap_cli.output import Output

PLAN = "Plan"
EXECUTION = "Execution"
RESULT = "Result"
SLURM = "Slurm"


def _slurm(help: str, *names: str, **more: object) -> object:
    more.setdefault("show_default", False)
    return typer.Option(*names, help=help, rich_help_panel=SLURM, **more)  # type: ignore[arg-type]


def _plan(help: str, *names: str, **more: object) -> object:
    return typer.Option(*names, help=help, rich_help_panel=PLAN, show_default=False, **more)  # type: ignore[arg-type]


@options.with_settings(
    options.BUDGET,
    {name: option for name, option in options.OPTIMISATION.items() if name not in options.SEED},
    options.NETWORK,
    options.MACHINE,
)
def compare(
    given: options.Given,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="STORE... | RESULTS",
            help="The stores to train on; or the folder of a comparison, to show it.",
            show_default=False,
        ),
    ] = None,
    methods: Annotated[
        str | None,
        _plan(
            "Methods, separated by commas; the settings of each after colons: joint,adaptive:lambda_gap=3.",
            "--methods",
            metavar="NAME[:KEY=VALUE],...",
            autocompletion=all_methods.names,
        ),
    ] = None,
    plan: Annotated[
        Path | None,
        _plan("A YAML file with stores, methods (a list of values is a grid), seeds, settings.", "--plan"),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of seeds, from 0.", rich_help_panel=PLAN, show_default=str(DEFAULT_SEEDS)
        ),
    ] = None,
    tune: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Choose each method's settings first, by N trials on validation; needs 'mgap[tune]'.",
            metavar="N",
            rich_help_panel=PLAN,
            show_default=False,
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="The method that all others are compared with.",
            rich_help_panel=RESULT,
            show_default=all_methods.FAIR_BASELINE,
        ),
    ] = None,
    metric: Annotated[
        str,
        typer.Option(
            help="HEAD.accuracy, HEAD.balanced_accuracy, HEAD.macro_f1, HEAD.ece or gap.mean_absolute.",
            rich_help_panel=RESULT,
        ),
    ] = DEFAULT_METRIC,
    rule: Annotated[
        str | None,
        typer.Option(
            help="Compare the methods by the accuracy of a decision rule, instead of --metric: "
            f"{', '.join(configuration.RULES.names())}.",
            rich_help_panel=RESULT,
            show_default=False,
            autocompletion=configuration.RULES.names,
        ),
    ] = None,
    table: Annotated[
        Literal["markdown", "latex", "csv", "json"] | None,
        typer.Option(help="Print the table in this format.", rich_help_panel=RESULT, show_default=False),
    ] = None,
    status: Annotated[
        bool, typer.Option("--status", help="Only show the state of each cell.", rich_help_panel=RESULT)
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Cells that run at the same time; the cores are divided among them.",
            rich_help_panel=EXECUTION,
            show_default="1, or --per-gpu of each GPU",
        ),
    ] = None,
    per_gpu: Annotated[
        int | None,
        typer.Option(min=1, help="Cells that share a GPU.", rich_help_panel=EXECUTION, show_default="1"),
    ] = None,
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="Run cells again that failed before.", rich_help_panel=EXECUTION),
    ] = False,
    slurm: Annotated[
        bool, _slurm("Submit the cells as one job array, and return at once.", "--slurm")
    ] = False,
    parallel: Annotated[
        int | None, _slurm("Jobs that run at the same time.", "--parallel", min=1, show_default="all")
    ] = None,
    time_limit: Annotated[
        str | None,
        _slurm(
            "Time limit of a job; a cell that needs longer is queued again and continues.",
            "--time-limit",
            metavar="MINUTES|HH:MM:SS|D-HH:MM:SS",
            show_default=DEFAULT_TIME_LIMIT,
        ),
    ] = None,
    partition: Annotated[str | None, _slurm("Partition of the jobs.", "--partition")] = None,
    account: Annotated[str | None, _slurm("Account that pays for the jobs.", "--account")] = None,
    sbatch: Annotated[
        list[str] | None,
        _slurm(
            "Any other option of sbatch, such as gres=gpu:1 or cpus-per-task=4; repeatable.",
            "--sbatch",
            metavar="NAME[=VALUE]",
        ),
    ] = None,
    output: options.ResultsFolder = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only print the cells, their epochs and the hours they may take."),
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare methods: train each on every store with every seed, and test the differences.

    All cells have the same budget of epochs, keep the epoch that is best on validation, and are evaluated on
    the whole test set. A finished cell is never trained again: the same command continues a comparison that
    was stopped. A cell that fails does not stop the others; the exit code is then 1. With --slurm the command
    does not wait for the cells.
    """
    from mgap_cli.workflow.comparison import (
        execute_comparison,
        is_results_folder,
        open_comparison,
        plan_comparison,
        requested,
    )
    from mgap_cli.workflow.comparison_views import (
        chosen_metric,
        dry_run_view,
        raise_for_failures,
        status_view,
        table_view,
        write_page,
    )
    from mgap_cli.workflow.slurm import submit_comparison

    sink = Output(json or table == "json", quiet)
    metric = chosen_metric(metric, rule)
    require_for_slurm(
        slurm,
        {
            "--parallel": parallel,
            "--time-limit": time_limit,
            "--partition": partition,
            "--account": account,
            "--sbatch": sbatch,
        },
        {"--jobs": jobs, "--per-gpu": per_gpu},
    )
    only = paths[0] if paths and len(paths) == 1 and is_results_folder(paths[0]) else None
    if only:
        results, comparison = only, open_comparison(only)
    else:
        request = requested(paths or [], methods, seeds, plan, tune)
        results = output or options.DEFAULT_RESULTS
        comparison = plan_comparison(request, given.over)
        if dry_run:
            sink.result(*dry_run_view(comparison, results))
            return
    if status:
        sink.result(*status_view(comparison, results))
        return
    if slurm:
        asked = SlurmRequest(
            parallel,
            minutes_of(time_limit or DEFAULT_TIME_LIMIT),
            partition,
            account,
            sbatch_options(sbatch or []),
        )
        sink.result(*submit_comparison(comparison, results, asked, sink, retry_failed=retry_failed))
        return
    if not only or retry_failed:
        execute_comparison(
            comparison, results, sink, jobs=jobs, per_gpu=per_gpu or 1, retry_failed=retry_failed
        )
    sink.result(*table_view(comparison, results, metric, reference, table, sink))
    if not only or retry_failed:
        sink.log(f"page: {write_page(comparison, results, metric, reference)}")
        raise_for_failures(comparison, results)
