"""`mgap warmup`: the first stage of `adaptive`, which trains every branch without intervention."""

from __future__ import annotations

from mgap_cli import config as configuration
from mgap_cli.commands import _options as options
from mgap_cli.commands._stage import default_run, run_stage
from mgap_cli.output import Output


@options.with_settings(
    {
        "method": options.method("warmup.method"),
        "epochs": options.setting("warmup.epochs", int, "Epochs of this stage; the budget is train.epochs."),
    },
    options.OPTIMISATION,
    options.NETWORK,
    options.MACHINE,
)
def warmup(
    store: options.StoreArgument,
    given: options.Given,
    output: options.RunFolder = None,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train every branch jointly, without intervention; prints the checkpoint's path.

    Settings that are not given come from the data set's preset. If it is interrupted, run the
    same command again: it continues. A finished warm-up returns at once.
    """
    from mgap_cli.data.store import open_store
    from mgap_cli.workflow.stages import plan_warmup

    sink = Output(json, quiet)
    opened = open_store(store)
    resolved = given.over(configuration.preset(opened.preset))
    plan = plan_warmup(opened, resolved, output or default_run(store, resolved))
    method, epochs, budget = resolved.warmup.method, plan.stage.epochs, resolved.train.epochs
    if method != configuration.WarmupConfig.method and epochs < budget:
        sink.warn(
            f"warmup trains {method} for warmup.epochs={epochs} of the train.epochs={budget} epochs; "
            f"`mgap train {store} --method {method}` trains the whole budget."
        )
    run_stage(plan, sink, force=force, dry_run=dry_run)
