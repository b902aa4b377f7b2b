"""The analysis of one checkpoint, or of one file of scores, for `analyze-gap`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mgap_cli.errors import UsageError
from mgap_cli.output import Output
from mgap_cli.workflow.gap_views import Request, conclusion, overview, pair_fits, pair_tables, views

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mgap_cli.analysis.causes import ModalityCause
    from mgap_cli.config import Config
    from mgap_cli.gap.mixture import GapFit
    from mgap_cli.training.trained_model import TrainedModel


def analyse_checkpoint(
    checkpoint: Path, split: str, store: Path | None, config: Config, request: Request, sink: Output
) -> None:
    """Run the network over its store's splits and show the analysis of the gaps of `split`."""
    from mgap_cli.files import ensure_outputs_allowed
    from mgap_cli.report.documents import gap_document, gap_summary
    from mgap_cli.report.tables.causes import causes_table
    from mgap_cli.runs.layout import gap_path
    from mgap_cli.training.device import choose_scoring_device
    from mgap_cli.training.distributed import writing
    from mgap_cli.training.trained_model import open_trained
    from mgap_cli.workflow.causes import diagnosis
    from mgap_cli.workflow.gap_measures import checked_unimodal, model_measures

    unimodal = checked_unimodal(request.unimodal, sink)
    human_png = gap_path(checkpoint, ".png", "human", request.output)
    kept = [gap_path(checkpoint, suffix, folder=request.output) for suffix in (".csv", ".json", ".png")]
    outputs = [path for path in kept if path.suffix != ".csv" or not request.csv]
    ensure_outputs_allowed([*outputs, *request.outputs(human_png)], [*request.inputs, *unimodal.values()])
    device = choose_scoring_device(config.runtime, sink)
    model = open_trained(checkpoint, device, store, config.runtime.eval_batch_size)
    with writing(request.output or checkpoint.parent, config.runtime.device, sink):
        causes = diagnosis(model, config) if request.held_out else []
        fits = analyse_and_keep(model, split, config, sink, request.csv, request.plot, request.output, causes)
        pairs = pair_fits(fits[split], config) if len(model.network.encoders) > 2 else {}
        sections, view_tables = views({split: fits[split]}, config, request, human_png, sink, split)
    measured, tables = model_measures(model, split, config, unimodal) if request.measures else ({}, [])
    summary = gap_document(checkpoint, split, fits, [split], causes=causes, scores=config.gap.scores)
    document = {**summary, **sections, **measured}
    lags: list[RenderableType] = [causes_table(causes, config.analysis.confidence)] if causes else []
    if pairs:
        document["pairs"] = gap_summary(checkpoint, split, pairs)["fits"]
    last = conclusion(fits, split)
    sink.result(document, *overview(fits, split), *pair_tables(pairs), *tables, *view_tables, *lags, last)


def analyse_and_keep(
    model: TrainedModel,
    split: str,
    config: Config,
    sink: Output,
    csv: Path | None = None,
    plot: bool = False,
    folder: Path | None = None,
    causes: Sequence[ModalityCause] = (),
) -> dict[str, GapFit]:
    """Analyse `split`, and train and val too; write the table, the document and, with `plot`, the figure.

    csv: the path of the table. folder: the folder of the other files, and of the table without `csv`; None
    puts them beside the checkpoint. causes: of the document, too.
    """
    from mgap_cli.files import write_json_once, write_text_once
    from mgap_cli.gap.mixture import analyse
    from mgap_cli.report.documents import gap_csv, gap_summary
    from mgap_cli.runs.layout import gap_path
    from mgap_cli.workflow.gap_views import examined, warn_if_memorised, write_gap_figure

    present = [s for s in ("train", "val") if s == split or (model.store.splits == s).any()]
    names = present if split in present else [*present, split]
    fits = {name: analyse(model.scores(name, config.gap.scores), config.gap) for name in names}
    fits[split] = examined(fits[split], split, config, sink)
    fits[split] = warn_if_memorised(fits, split, config, sink)
    write_text_once(csv or gap_path(model.path, ".csv", folder=folder), gap_csv(fits[split]))
    digests = {str(model.path): model.digest}  # a report uses it to see whether this file is out of date
    write_json_once(
        gap_path(model.path, ".json", folder=folder),
        {**gap_summary(model.path, split, fits, causes, config.gap.scores), "sha256": digests},
    )
    if plot:
        write_gap_figure(fits[split], split, gap_path(model.path, ".png", folder=folder), sink)
    return fits


def analyse_scores(
    path: Path, modalities: str | None, split: str | None, config: Config, request: Request, sink: Output
) -> None:
    """Analyse the scores in a file, for every pair of modalities."""
    from mgap_cli.files import ensure_outputs_allowed, write_text_once
    from mgap_cli.gap.mixture import analyse
    from mgap_cli.gap.score_files import read_scores
    from mgap_cli.report.documents import gap_csv, gap_document
    from mgap_cli.workflow.gap_measures import score_measures
    from mgap_cli.workflow.gap_views import examined, write_gap_figure

    names = [] if modalities is None else [name.strip() for name in modalities.split(",")]
    folder = request.output or path.parent
    human_png = folder / f"{path.stem}-human.png"
    named = request.outputs(human_png)
    ensure_outputs_allowed(named, request.inputs)
    table = read_scores(path, names, {"split", config.analysis.truth, *request.columns})
    if split:
        table = table.of_split(split)
    pairs = table.pairs()
    if request.csv and len(pairs) > 1:
        raise UsageError(
            "--csv writes the table of one pair.", f"Name two: --modalities {','.join(pairs[0].modalities)}"
        )
    wheres = ["-".join(scores.modalities) if len(pairs) > 1 else "" for scores in pairs]
    pngs = [folder / _figure_name(path, where) for where in wheres]
    if request.plot:
        ensure_outputs_allowed(pngs, [*request.inputs, *named])
    fits = {}
    for scores, where, png in zip(pairs, wheres, pngs, strict=True):
        name = "-".join(scores.modalities)
        fits[name] = examined(analyse(scores, config.gap), where, config, sink)
        if request.plot:
            write_gap_figure(fits[name], where, png, sink)
    if request.csv:
        write_text_once(request.csv, gap_csv(next(iter(fits.values()))))
    sections, view_tables = views(fits, config, request, human_png, sink)
    measured, tables = score_measures(fits, config) if request.measures else ({}, [])
    document = {**gap_document(path, "", fits, list(fits), request.top), **sections, **measured}
    sink.result(document, *overview(fits), *tables, *view_tables, conclusion(fits))


def _figure_name(scores: Path, pair: str) -> str:
    """Return the name of the figure for a file of scores; with several pairs, `pair` names the modalities."""
    name = "".join(c if c.isalnum() else "-" for c in f"gap-{pair}".rstrip("-"))
    return f"{scores.stem}-{name}.png"
