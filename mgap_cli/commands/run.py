"""`mgap run`: prepare, warm up, analyse, adapt and evaluate in one run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mgap_cli.commands import _options as options
from mgap_cli.commands._stage import default_run
from mgap_cli.commands.prepare import base_settings, split_option, with_preset
from mgap_cli.output import Output, printable
from mgap_cli.processes import refuse_many
from mgap_cli.report.schemas import schema


@options.with_settings(options.BUDGET, options.OPTIMISATION, options.NETWORK, options.MACHINE)
def run(
    dataset: Annotated[
        str, typer.Argument(help="A data set's name, as for prepare, or a store.", show_default=False)
    ],
    given: options.Given,
    root: Annotated[
        Path | None, typer.Argument(help="The data set's folder; digits needs none.", show_default=False)
    ] = None,
    output: options.RunFolder = None,
    label: options.Label = None,
    split: options.Split = None,
    segment: options.Segment = None,
    keep_leaks: options.KeepLeaks = False,
    strict: options.Strict = False,
    allow_skips: options.AllowSkips = False,
    preset: options.Preset = None,
    workers: options.Workers = None,
    force: options.Force = False,
    baseline: Annotated[
        bool,
        typer.Option(
            "--baseline/--no-baseline",
            help="Also train the fair baseline, joint-heads, for the same number of epochs, for comparison.",
        ),
    ] = True,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Prepare, warm up, analyse, adapt and evaluate, all in one run folder.

    The evaluation compares with joint-heads, trained for the same number of epochs (in RUN/baseline). The
    last lines are the verdict and the paths of the results. If it is interrupted, run the same command again:
    it continues. --epochs is the budget of the warm-up and the adaptive stage together (warmup.epochs is the
    warm-up's part); the baseline has the same. --dry-run shows the stages and every setting.
    """
    from mgap_cli.data.prepare.build import build_store
    from mgap_cli.data.sources import load_dataset
    from mgap_cli.data.store import is_store, open_store
    from mgap_cli.runs.layout import require_run_folder
    from mgap_cli.training.distributed import writing
    from mgap_cli.workflow.whole_run import planned_stages, train_and_evaluate

    sink = Output(json, quiet)
    prepared = open_store(Path(dataset)) if is_store(Path(dataset)) else None
    resolved = given.over(base_settings(preset, prepared.preset if prepared else dataset))
    named = Path(dataset if prepared else preset or dataset)
    target = output or default_run(named, resolved)
    require_run_folder(target)
    stages = planned_stages(resolved, target, baseline)
    if dry_run:
        document = {
            "schema": schema("dry-run"),
            "run": str(target),
            "stages": stages,
            "config": resolved.to_dict(),
        }
        lines = [f"# run: {target}"]
        for stage in stages:
            lines.append("# {stage}: {method}, {epochs} epochs, in {run}".format(**stage))
        sink.result(document, "\n".join([*map(printable, lines), resolved.to_yaml()]))
        return
    loaded = None
    if prepared is None:
        refuse_many("run DATASET", f"First `mgap prepare {dataset}`, then `mgap run` with the printed store.")
        loaded = load_dataset(
            dataset,
            root,
            resolved.data,
            label=label,
            **split_option(split or []),
            segment=segment,
            keep_leaks=keep_leaks,
            strict=strict,
        )
        loaded = with_preset(loaded, preset, dataset)
    with writing(target, resolved.runtime.device, sink):
        if loaded is not None:
            prepared = build_store(
                loaded,
                resolved.data,
                target / "store",
                sink,
                workers=workers,
                force=force,
                allow_skips=allow_skips,
            )
        assert prepared is not None
        document, tables = train_and_evaluate(prepared, resolved, target, sink, force, baseline)
    sink.result(document, *tables)
