"""Evaluate checkpoints: choose, score and compare them, and write evaluate.json and plots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgap_cli.output import Output

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mgap_cli.config import Config
    from mgap_cli.evaluation.evaluate import Judgement
    from mgap_cli.evaluation.seeds import RunGroup
    from mgap_cli.training.trained_model import TrainedModel

DOCUMENT, ROBUSTNESS = "evaluate.json", "evaluate-robustness.png"  # files about all checkpoints of a command


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate.

    by: columns of clips.csv; accuracy is also shown for each of their values. output: the folder of the
    document and of all plots; None puts each file beside its checkpoint.
    """

    split: str = "test"
    by: tuple[str, ...] = ()
    robustness: bool = False
    plot: bool = False
    output: Path | None = None

    def path(self, checkpoint: Path, name: str) -> Path:
        """Return the path of the file `name` that belongs to a checkpoint."""
        return (self.output or checkpoint.parent) / name


def evaluate_checkpoints(
    checkpoints: Sequence[Path],
    request: EvaluationRequest,
    config: Config,
    store: Path | None,
    sink: Output,
    settings_file: Path | None = None,
) -> tuple[dict[str, Any], list[RenderableType]]:
    """Evaluate checkpoints under the lock of their run folders; return the document and the tables.

    checkpoints: files, or run folders, of which the last checkpoint is taken. store: the folder of the data,
    if it is not the one that the checkpoints name. settings_file: an input that no output may replace.
    """
    from mgap_cli.evaluation.robustness import conditions
    from mgap_cli.files import ensure_outputs_allowed
    from mgap_cli.runs.checkpoint import load_checkpoint
    from mgap_cli.runs.run_checkpoints import checkpoint_in, without_working_files
    from mgap_cli.training.device import choose_scoring_device
    from mgap_cli.training.distributed import writing
    from mgap_cli.training.trained_model import open_trained

    taken = [checkpoint_in(path, sink) for path in checkpoints]
    chosen = without_working_files(_present(taken), sink)
    outputs = _outputs(chosen, request)
    ensure_outputs_allowed(outputs, [*chosen, *([settings_file] if settings_file else [])])
    device = choose_scoring_device(config.runtime, sink)
    models = (open_trained(path, device, store, config.runtime.eval_batch_size) for path in chosen)
    passes = 2 * len(chosen)  # one pass over the split and one over validation
    if request.robustness:
        opened = map(load_checkpoint, chosen)
        passes += sum(len(conditions(config.evaluate, c.modalities, c.config.data.audio)) for c in opened)
    with ExitStack() as stack:
        for folder in dict.fromkeys(path.parent for path in outputs):
            stack.enter_context(writing(folder, config.runtime.device, sink))
        progress = stack.enter_context(sink.progress("evaluate", passes, "passes"))
        numbers = count(1)
        return judge(models, request, config, sink, lambda: progress(next(numbers)))


def judge(
    models: Iterable[TrainedModel],
    request: EvaluationRequest,
    config: Config,
    sink: Output,
    tick: Callable[[], None] = lambda: None,
) -> tuple[dict[str, Any], list[RenderableType]]:
    """Evaluate models, write evaluate.json beside the last one, and return the document and the tables.

    tick: called after each pass over the split.
    """
    from mgap_cli.evaluation.evaluate import evaluate
    from mgap_cli.evaluation.seeds import compare_checkpoints, grouped, over_seeds, several_seeds
    from mgap_cli.files import write_json_once
    from mgap_cli.report.documents import evaluation_document
    from mgap_cli.report.tables import evaluation as tables
    from mgap_cli.report.tables.decision_rules import rules_table
    from mgap_cli.report.verdict import verdict

    judged = evaluate(models, request.split, config, request.by, request.robustness, tick)
    evaluations = [j.evaluation for j in judged]
    groups, warnings = grouped(evaluations, [j.config for j in judged])
    for warning in warnings:
        sink.warn(warning)
    several = several_seeds(groups)
    comparisons = compare_checkpoints(groups, evaluations, config.evaluate)
    by_seed = over_seeds(groups, evaluations) if several else []
    sentences = verdict(judged, comparisons, groups, by_seed, config.evaluate)
    document = evaluation_document(judged, comparisons, groups, by_seed, sentences)
    write_json_once(request.path(judged[-1].path, DOCUMENT), document)
    _draw(judged, groups, request, sink)

    printed = [tables.group_table(groups, evaluations)] if several else []
    if several and len(groups) > 1:
        printed.append(tables.seed_comparison_table(by_seed, groups, config.evaluate.confidence))
    printed += [tables.evaluation_table(evaluations), tables.calibration_table(evaluations)]
    if comparisons:
        printed.append(tables.comparison_table(comparisons, evaluations))
    printed.append(tables.per_class_table(judged, groups))
    printed += [tables.by_table(judged, groups, column) for column in range(len(judged[0].by))]
    if rules := rules_table(judged, groups):
        printed.append(rules)
    if request.robustness:
        printed.append(tables.robustness_table(judged, groups))
    printed.append(tables.verdict_paragraphs(sentences))
    return document, printed


def _plot_paths(checkpoints: Sequence[Path], request: EvaluationRequest) -> dict[Path, tuple[Path, Path]]:
    """Return the paths of each checkpoint's confusion matrices and reliability diagram.

    If one folder gets all files, checkpoints of the same name get the names of their run folders as well.
    """
    from mgap_cli.workflow.movement import names_of

    if not request.plot:
        return {}
    different = list({path.resolve(): path for path in checkpoints}.values())
    names = names_of(different) if request.output else [path.stem for path in different]
    stems = [f"evaluate-{name.replace('/', '-').lstrip('-')}" for name in names]
    return {
        path: (request.path(path, f"{stem}-confusion.png"), request.path(path, f"{stem}-calibration.png"))
        for path, stem in zip(different, stems, strict=True)
    }


def _outputs(checkpoints: Sequence[Path], request: EvaluationRequest) -> list[Path]:
    """Return every file that the evaluation will write."""
    names = [DOCUMENT, *([ROBUSTNESS] if request.robustness else [])]
    drawn = _plot_paths(checkpoints, request).values()
    return [
        *(request.path(checkpoints[-1], name) for name in names),
        *(path for pair in drawn for path in pair),
    ]


def _present(checkpoints: Sequence[Path]) -> Sequence[Path]:
    """Return the paths. Raises UnfitError if one is missing, before any checkpoint is evaluated."""
    from mgap_cli.runs.checkpoint import load_checkpoint

    for path in checkpoints:
        if not path.is_file():
            load_checkpoint(path)
    return checkpoints


def _draw(
    judged: Sequence[Judgement], groups: Sequence[RunGroup], request: EvaluationRequest, sink: Output
) -> None:
    from mgap_cli.report.figures import evaluation as plots
    from mgap_cli.report.figures.gap import write_png
    from mgap_cli.report.tables.evaluation import contenders

    evaluations = {j.path: j.evaluation for j in judged}
    for path, (confusion, calibration) in _plot_paths([*evaluations], request).items():
        write_png(plots.confusion_figure(evaluations[path]), confusion, sink)
        write_png(plots.reliability_figure(evaluations[path]), calibration, sink)
    if request.robustness:
        curves = plots.robustness_figure(contenders(judged, groups))
        write_png(curves, request.path(judged[-1].path, ROBUSTNESS), sink)
