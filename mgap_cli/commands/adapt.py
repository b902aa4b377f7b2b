"""`mgap adapt`: the second stage of `adaptive`, which continues from a warm-up with the adaptive loss."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mgap_cli import config as configuration
from mgap_cli.commands import _options as options
from mgap_cli.commands._stage import run_stage
from mgap_cli.output import Output


def _coefficient(key: str, type_: Any, help: str, *names: str) -> Any:
    return options.setting(key, type_, help, *names, panel="Adaptive loss")


ADAPTIVE: options.Group = {
    "alpha": _coefficient("adaptive.alpha", float, "How much the fused loss prefers balanced samples."),
    "beta": _coefficient("adaptive.beta", float, "Extra weight of imbalanced samples in the gap term."),
    "lambda_gap": _coefficient("adaptive.lambda_gap", float, "Weight of the gap term."),
    "lambda_shift": _coefficient("adaptive.lambda_shift", float, "Weight of the shift term."),
    "gap_scale": _coefficient(
        "adaptive.gap_scale", configuration.GapScale, "Unit of the gap term: nats (log) or probability."
    ),
    "stop_gradient": _coefficient(
        "adaptive.stop_gradient",
        configuration.StopGradient,
        "leading: the gap term trains only the lagging modality; none: both.",
    ),
    "shift": _coefficient("adaptive.shift", configuration.Shift, "Form of the shift term."),
    "scores": _coefficient(
        "adaptive.scores",
        configuration.ScoreSource,
        "Scores for the refits: one pass over train, or those seen online.",
    ),
    "refit_every": _coefficient("adaptive.refit_every", int, "Epochs between refits."),
    "gap_kind": _coefficient("gap.kind", configuration.GapKind, "Mixture over absolute or signed gaps."),
    "gap_scores": _coefficient(
        "gap.scores",
        configuration.GapScores,
        "Scores of the mixture: a pass, or linear heads that did not see the sample.",
    ),
    "components": _coefficient("gap.components", int, "Components of the mixture."),
}


@options.with_settings(
    {
        "only": options.setting(
            "adapt.only",
            str,
            "Samples to train on: all, balanced, or those in a file, such as analyze-gap --export writes.",
            metavar="all|balanced|FILE",
            value=lambda only: str(Path(only).resolve()) if Path(only).is_file() else only,
        ),
        "threshold": options.setting(
            "adapt.threshold", float, "Posterior of imbalance below which a sample is balanced."
        ),
        "method": options.method("adapt.method"),
        "epochs": options.setting(
            "adapt.epochs", int, "Epochs of this stage.", show_default="the rest of the budget"
        ),
    },
    ADAPTIVE,
    options.OPTIMISATION,
    options.MACHINE,
)
def adapt(
    checkpoint: Annotated[
        Path, typer.Argument(help="A warm-up's checkpoint (.pt), or its run folder.", show_default=False)
    ],
    given: options.Given,
    output: options.NextRunFolder = None,
    store: options.StoreOption = None,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Reduce the imbalance with the adaptive loss, from a warm-up; prints the new checkpoint's path.

    Settings that are not given are those of the warm-up.
    """
    from mgap_cli.runs.run_checkpoints import checkpoint_in
    from mgap_cli.workflow.stages import open_for_adapt, plan_adapt

    sink = Output(json, quiet)
    checkpoint = checkpoint_in(checkpoint, sink, without=("adapt",))
    parent, opened = open_for_adapt(checkpoint, store)
    resolved = given.over(parent.config)
    plan = plan_adapt(checkpoint, parent, opened, resolved, output or checkpoint.parent)
    run_stage(plan, sink, force=force, dry_run=dry_run)
