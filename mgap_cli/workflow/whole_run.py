"""`mgap run`, from a prepared store to the evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgap_cli.output import Output

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mgap_cli.config import Config
    from mgap_cli.data.store import Store


def train_and_evaluate(
    store: Store, config: Config, folder: Path, sink: Output, force: bool
) -> tuple[dict[str, Any], list[RenderableType]]:
    """Warm up, analyse, adapt and evaluate in one run folder; return the document and the tables."""
    from mgap_cli.report.documents import gap_summary
    from mgap_cli.runs.checkpoint import load_checkpoint
    from mgap_cli.training.device import choose_scoring_device
    from mgap_cli.training.trained_model import open_trained
    from mgap_cli.workflow.evaluation import EvaluationRequest, judge
    from mgap_cli.workflow.gap_analysis import analyse_and_keep
    from mgap_cli.workflow.gap_views import overview
    from mgap_cli.workflow.stages import execute, plan_adapt, plan_warmup

    plan = plan_warmup(store, config, folder)
    warm = execute(plan, sink, force)
    device = choose_scoring_device(config.runtime.device, sink)
    model = open_trained(warm, device, store.path)
    fits = analyse_and_keep(model, "train", config, sink, plot=True)
    adapted = execute(plan_adapt(warm, load_checkpoint(warm), store, plan.config, folder), sink, force)
    models = [model, open_trained(adapted, device, store.path)]
    verdict, shown = judge(models, EvaluationRequest(), config, sink)
    document = {
        "schema": "mgap.run/2",
        "run": str(folder),
        "gap": gap_summary(warm, "train", fits),
        "evaluation": verdict,
    }
    return document, [*overview(fits, "train"), *shown]
