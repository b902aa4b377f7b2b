"""The common parts of `train`, `warmup` and `adapt`: the run folder, the dry run, and the printed path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mgap_cli.config import Config
from mgap_cli.output import Output, printable
from mgap_cli.report.schemas import schema

if TYPE_CHECKING:
    from mgap_cli.workflow.stages import Plan


def default_run(store: Path, config: Config) -> Path:
    """Return mgap-runs/<store>-seed<seed>, in the working folder."""
    return Path("mgap-runs") / f"{store.resolve().name}-seed{config.train.seed}"


def run_stage(plan: Plan, sink: Output, *, force: bool, dry_run: bool) -> None:
    """Execute a stage and print its checkpoint; with `dry_run`, print what it would do."""
    from mgap_cli.report.documents import path_document
    from mgap_cli.workflow.stages import execute

    if dry_run:
        print_plan(plan, sink)
        return
    checkpoint = execute(plan, sink, force)
    sink.result(path_document(plan.stage.name, checkpoint, run=str(plan.run)), checkpoint)


def print_plan(plan: Plan, sink: Output) -> None:
    """Print what a stage would do: device, precision, sample counts, steps and every setting."""
    from mgap_cli.training.device import choose_device, choose_float32
    from mgap_cli.training.precision import choose_precision

    runtime = plan.config.runtime
    device = choose_device(runtime.device, sink)
    precision = choose_precision(runtime.precision, device, plan.config, sink)
    float32 = choose_float32(runtime.float32, precision.name, device, sink)
    chosen = {"device": str(device), "precision": precision.name, "float32": float32}
    summary = {**plan.summary(), **chosen}
    lines = "\n".join(printable(f"# {key}: {value}") for key, value in summary.items())
    document = {"schema": schema("dry-run"), **summary, "config": plan.config.to_dict()}
    sink.result(document, f"{lines}\n{plan.config.to_yaml()}")
