"""One cell of a comparison: train a method by its recipe, and evaluate it on test and validation."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgap_cli.comparison.cell_result import RULE_PREFIX, CellResult
from mgap_cli.comparison.plan import Cell
from mgap_cli.comparison.process_pool import Worker
from mgap_cli.errors import MgapError
from mgap_cli.output import Output

if TYPE_CHECKING:
    from mgap_cli.evaluation.evaluate import Judgement
    from mgap_cli.stats.arrays import BoolArray

_LOCK_TRIES = 50
_LOCK_SECONDS = 0.2


@dataclass(frozen=True)
class CellJob:
    """Everything that a cell's process needs. method: a name or path.py:Class. settings: all sections."""

    cell: Cell
    store: Path
    method: str
    settings: Mapping[str, Any]
    results: Path

    def __str__(self) -> str:
        return str(self.cell)

    @property
    def log(self) -> Path:
        return self.cell.log(self.results)


def run_cell(job: CellJob, worker: Worker) -> None:
    """Train and evaluate a cell in its run folder and write its record. Finished parts are skipped.

    Raises MgapError if the training fails or is stopped by a signal.
    """
    from mgap_cli.config import from_dict
    from mgap_cli.data.store import open_store
    from mgap_cli.evaluation.evaluate import evaluate
    from mgap_cli.evaluation.seeds import figures_of
    from mgap_cli.files import write_json
    from mgap_cli.methods import load_method
    from mgap_cli.report.documents import evaluation_document
    from mgap_cli.report.verdict import verdict
    from mgap_cli.runs.layout import read_metrics
    from mgap_cli.training.device import choose_scoring_device
    from mgap_cli.training.trained_model import open_trained
    from mgap_cli.workflow.stages import train

    load_method(job.method)  # makes the method's settings known
    config = from_dict(job.settings, str(job.cell)).updated({"runtime.device": worker.device}, "compare")
    sink, run = Output(quiet=True), job.cell.folder(job.results)
    with ExitStack() as stack:
        _lock(run, sink, stack)
        checkpoint = train(job.method, open_store(job.store), config, run, sink)
        model = open_trained(checkpoint, choose_scoring_device(config.runtime, sink), job.store)
        judged: dict[str, Judgement] = {
            split: evaluate([model], split, config)[0]
            for split in job.cell.splits
            if (model.store.splits == split).any()
        }
        test = judged.get("test")
        if test:
            sentences = verdict([test], [], [], [], config.evaluate)
            document = evaluation_document([test], [], verdict=sentences)
            write_json(checkpoint.with_name("evaluate.json"), document)
        epochs = read_metrics(run)
        head = next(iter((test or judged["val"]).evaluation.correct))
        correct = {**test.evaluation.correct, **_by_rule(test)} if test else {}
        CellResult(
            job.cell,
            "done",
            round(sum(float(epoch.get("seconds", 0)) for epoch in epochs), 3),
            worker.device,
            len(epochs),
            {split: {**figures_of(j.evaluation), **_rule_figures(j)} for split, j in judged.items()},
            head,
            {name: "".join("1" if right else "0" for right in rights) for name, rights in correct.items()},
        ).write(job.results)
        if not job.cell.keeps_checkpoints:
            for path in run.glob("*.pt"):
                path.unlink()


def _by_rule(judgement: Judgement) -> dict[str, BoolArray]:
    """Return whether each decision rule is right for each sample, (N,), by the rule's name in the record."""
    decisions = judgement.rules.decisions() if judgement.rules else {}
    return {f"{RULE_PREFIX}{name}": correct for name, correct in decisions.items()}


def _rule_figures(judgement: Judgement) -> dict[str, float]:
    return {f"{name}.accuracy": float(correct.mean()) for name, correct in _by_rule(judgement).items()}


def _lock(run: Path, sink: Output, stack: ExitStack) -> None:
    """Take the lock of a run folder; wait a few seconds for a process whose parent was killed to end."""
    from mgap_cli.runs.lock import run_lock

    for left in reversed(range(_LOCK_TRIES)):
        try:
            stack.enter_context(run_lock(run, sink))
            return
        except MgapError:
            if not left:
                raise
            time.sleep(_LOCK_SECONDS)
