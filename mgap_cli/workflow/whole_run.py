"""The work of `mgap run`, from a prepared store to the evaluation and its page."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgap_cli.output import Output
from mgap_cli.report.schemas import schema

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mgap_cli.config import Config
    from mgap_cli.data.store import Store

BASELINE_FOLDER = "baseline"  # a run folder inside the run folder, as `mgap train` makes it


def planned_stages(config: Config, folder: Path, baseline: bool) -> list[dict[str, Any]]:
    """Return the stages that `run` trains: name, method, epochs and folder, in order.

    Raises UsageError if the warm-up takes the whole budget.
    """
    from mgap_cli.methods import FAIR_BASELINE
    from mgap_cli.training.stage import budget

    adaptive_epochs, whole = config.epochs_after_warmup(), budget("adapt", config)
    stages = [
        ("warmup", config.warmup.method, config.warmup.epochs, folder),
        ("adapt", config.adapt.method, adaptive_epochs, folder),
    ]
    if baseline:
        stages.append(("baseline", FAIR_BASELINE, whole, folder / BASELINE_FOLDER))
    return [
        {"stage": stage, "method": method, "epochs": epochs, "run": str(run)}
        for stage, method, epochs, run in stages
    ]


def train_and_evaluate(
    store: Store, config: Config, folder: Path, sink: Output, force: bool, baseline: bool = True
) -> tuple[dict[str, Any], list[RenderableType]]:
    """Warm up, analyse, adapt, train the fair baseline, evaluate and write the page of the run.

    baseline: whether to train it; it has the same number of epochs. Returns the document and the tables.
    """
    from mgap_cli.methods import FAIR_BASELINE
    from mgap_cli.report.documents import gap_summary
    from mgap_cli.runs.checkpoint import load_checkpoint
    from mgap_cli.training.device import choose_scoring_device
    from mgap_cli.training.stage import budget
    from mgap_cli.training.trained_model import open_trained
    from mgap_cli.workflow.evaluation import EvaluationRequest, judge
    from mgap_cli.workflow.gap_analysis import analyse_and_keep
    from mgap_cli.workflow.gap_views import overview
    from mgap_cli.workflow.run_page import write_page
    from mgap_cli.workflow.stages import execute, plan_adapt, plan_warmup, train

    plan = plan_warmup(store, config, folder)
    warm = execute(plan, sink, force)
    device = choose_scoring_device(config.runtime, sink)
    model = open_trained(warm, device, store.path)
    fits = analyse_and_keep(model, "train", config, sink, plot=True)
    adapted = execute(plan_adapt(warm, load_checkpoint(warm), store, plan.config, folder), sink, force)
    models = [model, open_trained(adapted, device, store.path)]
    if baseline:
        epochs = budget("adapt", config)
        baseline_config = config.updated({"train.epochs": epochs}, "mgap run")
        sink.log(f"baseline: {FAIR_BASELINE} for the same {epochs} epochs; --no-baseline skips it")
        fair = train(FAIR_BASELINE, store, baseline_config, folder / BASELINE_FOLDER, sink, force)
        models.insert(0, open_trained(fair, device, store.path))
    evaluation, tables = judge(models, EvaluationRequest(), config, sink)
    page, _ = write_page(folder, store.path)
    following = _next_command(store, config)
    document = {
        "schema": schema("run"),
        "run": str(folder),
        "gap": gap_summary(warm, "train", fits, scores=config.gap.scores),
        "evaluation": evaluation,
        "report": str(page),
        "next": following,
    }
    ending = f"Report: {page}\nNext, over several seeds:\n  {following}"
    return document, [*overview(fits, "train"), *tables, ending]


def _next_command(store: Store, config: Config) -> str:
    """Return the command that tests over several seeds whether the result of one run holds."""
    from mgap_cli.methods import FAIR_BASELINE

    methods = ",".join(dict.fromkeys([FAIR_BASELINE, config.adapt.method]))
    return shlex.join(
        ["mgap", "compare", str(store.path), "--methods", methods, "--seeds", "5", "-o", "results"]
    )
