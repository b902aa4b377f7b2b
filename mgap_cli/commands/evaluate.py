"""`mgap evaluate`: what came of it, fused and by modality, with uncertainty."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mgap_cli import config as configuration
from mgap_cli.commands import _options as options
from mgap_cli.output import Sink

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mgap_cli.config import Config
    from mgap_cli.evaluation.evaluate import Judgement
    from mgap_cli.evaluation.seeds import RunGroup
    from mgap_cli.training.trained_model import TrainedModel


@options.with_settings(options.DEVICE)
def evaluate(
    checkpoints: Annotated[list[Path], typer.Argument(help="One or more .pt files.", show_default=False)],
    given: options.Given,
    split: Annotated[str, typer.Option(help="Split to evaluate on.")] = "test",
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Accuracy by a column of clips.csv too, such as group; repeatable.",
            show_default=False,
        ),
    ] = None,
    robustness: Annotated[
        bool,
        typer.Option(
            "--robustness",
            help="Accuracy under noise, occlusion, a modality missing; writes evaluate-robustness.png.",
        ),
    ] = False,
    plot: Annotated[
        bool,
        typer.Option("--plot", help="Write confusion matrices and reliability as PNG beside each."),
    ] = False,
    store: options.StoreOption = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Evaluate checkpoints on all of the test set; with several, compare each with the first.

    Several seeds of a method (same stage, method and settings) become its mean and standard deviation,
    and methods are compared with the first by seed. Writes evaluate.json beside the last checkpoint.
    A stage's -last.pt and -best.pt are left out where the stage's own checkpoint is given too.
    """
    from mgap_cli.evaluation.robustness import conditions
    from mgap_cli.files import ensure_outputs_allowed
    from mgap_cli.training.device import choose_scoring_device
    from mgap_cli.training.distributed import writing
    from mgap_cli.training.trained_model import open_trained

    sink = Sink(json, quiet)
    checkpoints = _chosen(_present(checkpoints), sink)
    resolved = given.over(configuration.Config())
    outputs = _outputs(checkpoints, plot, robustness)
    ensure_outputs_allowed(outputs, [*checkpoints, *([given.file] if given.file else [])])
    chosen = choose_scoring_device(resolved.runtime.device, sink)
    size = resolved.runtime.eval_batch_size
    models = (open_trained(path, chosen, store, size) for path in checkpoints)
    passes = len(checkpoints) * (1 + robustness * len(conditions(resolved.evaluate)))
    with ExitStack() as stack:
        for folder in dict.fromkeys(path.parent for path in outputs):
            stack.enter_context(writing(folder, resolved.runtime.device, sink))
        progress = stack.enter_context(sink.progress("evaluate", passes, "passes"))
        done = iter(range(1, passes + 1))
        document, shown = judge(
            models,
            split,
            resolved,
            by=by or (),
            robustness=robustness,
            plot=plot,
            sink=sink,
            tick=lambda: progress(next(done)),
        )
    sink.result(document, *shown)


def judge(
    models: Iterable[TrainedModel],
    split: str,
    config: Config,
    *,
    by: Sequence[str] = (),
    robustness: bool = False,
    plot: bool = False,
    sink: Sink | None = None,
    tick: Callable[[], None] = lambda: None,
) -> tuple[dict[str, Any], list[RenderableType]]:
    """Evaluate models; leave evaluate.json beside the last, and return the document and the tables."""
    from mgap_cli.evaluation.evaluate import evaluate
    from mgap_cli.evaluation.seeds import compare_checkpoints, grouped, over_seeds, several_seeds
    from mgap_cli.files import file_digest, write_json
    from mgap_cli.report.documents import evaluation_document
    from mgap_cli.report.tables import evaluation as tables

    sink = sink or Sink()
    judged = evaluate(models, split, config, by, robustness, tick)
    evaluations = [j.evaluation for j in judged]
    groups, warnings = grouped(evaluations, [j.config for j in judged])
    for warning in warnings:
        sink.warn(warning)
    several = several_seeds(groups)
    comparisons = compare_checkpoints(groups, evaluations, config.evaluate)
    by_seed = over_seeds(groups, evaluations) if several else []
    document = evaluation_document(judged, comparisons, groups, by_seed)
    document["sha256"] = {str(j.path): file_digest(j.path) for j in judged}  # tells whether it is outdated
    write_json(_document_path(judged[-1].path), document)
    _draw(judged, groups, plot, robustness, sink)

    shown = [tables.group_table(groups, evaluations)] if several else []
    if several and len(groups) > 1:
        shown.append(tables.seed_comparison_table(by_seed, groups, config.evaluate.confidence))
    shown += [tables.evaluation_table(evaluations), tables.calibration_table(evaluations)]
    if comparisons:
        shown.append(tables.comparison_table(comparisons, evaluations))
    shown.append(tables.per_class_table(judged, groups))
    shown += [tables.by_table(judged, groups, place) for place in range(len(judged[0].by))]
    if robustness:
        shown.append(tables.robustness_table(judged, groups))
    return document, shown


def _chosen(checkpoints: Sequence[Path], sink: Sink) -> list[Path]:
    """Return the checkpoints without the working files of stages whose own checkpoint is among them.

    A shell's RUN/*.pt gives RUN/adapt-last.pt, from which training resumes, before RUN/adapt.pt.
    """
    given = {path.resolve() for path in checkpoints}
    kept = []
    for path in checkpoints:
        stage = path.stem.removesuffix("-last").removesuffix("-best")
        own = path.with_name(f"{stage}{path.suffix}")
        if own.name != path.name and own.resolve() in given:
            sink.log(f"left out {path}: {own.name} is given too, and is the epoch that the stage chose")
        else:
            kept.append(path)
    return kept


def _document_path(last: Path) -> Path:
    return last.with_name("evaluate.json")


def _plot_paths(checkpoint: Path) -> tuple[Path, Path]:
    """Return where a checkpoint's confusion matrices and its reliability are drawn."""
    stem = f"evaluate-{checkpoint.stem}"
    return checkpoint.with_name(f"{stem}-confusion.png"), checkpoint.with_name(f"{stem}-calibration.png")


def _robustness_path(last: Path) -> Path:
    return last.with_name("evaluate-robustness.png")


def _outputs(checkpoints: Sequence[Path], plot: bool, robustness: bool) -> list[Path]:
    """Return every file that the command will write."""
    last = checkpoints[-1]
    outputs = [_document_path(last), *([_robustness_path(last)] if robustness else [])]
    for path in {path.resolve(): path for path in checkpoints}.values() if plot else ():
        outputs += _plot_paths(path)
    return outputs


def _present(checkpoints: Sequence[Path]) -> Sequence[Path]:
    """Return the paths; UnfitError for one that is missing, before any time is spent on the others."""
    from mgap_cli.runs.checkpoint import load_checkpoint

    for path in checkpoints:
        if not path.is_file():
            load_checkpoint(path)
    return checkpoints


def _draw(
    judged: Sequence[Judgement], groups: Sequence[RunGroup], plot: bool, robustness: bool, sink: Sink
) -> None:
    from mgap_cli.report.figures import evaluation as plots
    from mgap_cli.report.figures.gap import write_png
    from mgap_cli.report.tables.evaluation import contenders

    for j in {j.path.resolve(): j for j in judged}.values() if plot else ():
        confusion, calibration = _plot_paths(j.path)
        write_png(plots.confusion_figure(j.evaluation), confusion, sink)
        write_png(plots.reliability_figure(j.evaluation), calibration, sink)
    if robustness:
        curves = plots.robustness_figure(contenders(judged, groups))
        write_png(curves, _robustness_path(judged[-1].path), sink)
