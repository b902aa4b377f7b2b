"""The output of `analyze-gap`: the verdict, tables, imbalanced samples, lists and plots."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mgap_cli.errors import UsageError
from mgap_cli.output import Output

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mgap_cli.config import Config
    from mgap_cli.gap.mixture import GapFit
    from mgap_cli.stats.arrays import BoolArray

Exported = Literal["balanced", "imbalanced"]


@dataclass(frozen=True)
class Request:
    """The views that the command line asks for; see the options of `analyze-gap`.

    inputs: the files that the command reads. output: the folder for files whose name is not given; None puts
    them beside the input.
    """

    top: int
    plot: bool
    csv: Path | None
    by: Sequence[str]
    where: Sequence[str]
    export: Path | None
    exported: Exported
    human: Path | None
    relabel: Path | None = None
    measures: bool = False
    unimodal: Sequence[str] = ()
    inputs: Sequence[Path] = ()
    output: Path | None = None
    held_out: bool = False

    def outputs(self, human_png: Path) -> list[Path]:
        """Return the files that the command line asks to write; `human_png` is for the scatter plot."""
        drawn = human_png if self.human and self.plot else None
        return [path for path in (self.csv, self.export, self.relabel, drawn) if path is not None]

    @property
    def columns(self) -> set[str]:
        """Return the columns that these views need."""
        from mgap_cli.analysis.breakdown import USUAL

        return {*USUAL, *self.by, *(condition.partition("=")[0].strip() for condition in self.where)}


def examined(fit: GapFit, where: str, config: Config, sink: Output) -> GapFit:
    """Return the fit with its tests, and print its warnings."""
    from mgap_cli.gap.bimodality import examine

    labels = fit.scores.labels
    if (labels == labels[0]).all():
        sink.warn(f"every sample is of class {fit.scores.classes[labels[0]]!r}: other classes may differ.")
    tested = examine(fit, config.analysis, config.gap)
    warnings = [*fit.warnings, *tested.warnings]
    for warning in warnings:
        sink.warn(f"{where}: {warning}" if where else warning)
    return dataclasses.replace(fit, bimodality=tested, warnings=warnings)


def write_gap_figure(fit: GapFit, where: str, path: Path, sink: Output) -> None:
    """Write the histogram of the gaps with the mixture."""
    from mgap_cli.report.figures.gap import gap_figure, write_png

    write_png(gap_figure(fit, where), path, sink)


def overview(fits: Mapping[str, GapFit], split: str | None = None) -> list[RenderableType]:
    """Return the verdict, components and diagnostics of `split`, and a table of all splits.

    Without `split`, `fits` are pairs of modalities, and each pair has its own tables.
    """
    from mgap_cli.report.tables import gap as tables
    from mgap_cli.report.tables import gap_analysis as gap_tables

    printed: list[RenderableType] = []
    for name in [split] if split else fits:
        where, fit = name if len(fits) > 1 else split or "", fits[name]
        printed.append(gap_tables.verdict_table(fit, where))
        printed.append(tables.component_table(fit, where))
        printed.append(tables.diagnostics_table(fit, where))
    side_by_side = tables.split_table if split else tables.pair_table
    printed.append(side_by_side(list(fits.items())))
    return printed


def conclusion(fits: Mapping[str, GapFit], split: str | None = None) -> RenderableType:
    """Return the verdict and its numbers. They are repeated at the end, where a long output scrolls to."""
    from mgap_cli.report.tables.gap_analysis import conclusion_table

    return conclusion_table(fits, split)


def warn_if_memorised(fits: Mapping[str, GapFit], split: str, config: Config, sink: Output) -> GapFit:
    """Return the fit of `split`, with a warning if its gaps are far smaller than those of another split."""
    from mgap_cli.gap.cautions import memorised

    fit, others = fits[split], {name: fit for name, fit in fits.items() if name != split}
    warnings = [
        w for name, other in others.items() if (w := memorised(fit, other, split, name, config.analysis))
    ]
    for warning in warnings:
        sink.warn(warning)
    return dataclasses.replace(fit, warnings=[*fit.warnings, *warnings])


def pair_fits(fit: GapFit, config: Config) -> dict[str, GapFit]:
    """Return the analysis of every pair of the modalities of a fit, by name."""
    from mgap_cli.gap.mixture import analyse

    return {"-".join(pair.modalities): analyse(pair, config.gap) for pair in fit.scores.pairs()}


def pair_tables(pairs: Mapping[str, GapFit]) -> list[RenderableType]:
    """Return one table of all pairs, for three or more modalities; nothing without pairs."""
    from mgap_cli.report.tables.gap import pair_table

    return [pair_table(list(pairs.items()))] if pairs else []


def views(
    fits: Mapping[str, GapFit],
    config: Config,
    request: Request,
    human_png: Path,
    sink: Output,
    split: str | None = None,
) -> tuple[dict[str, Any], list[RenderableType]]:
    """Return the imbalanced samples of each fit, for the document and as tables.

    fits: the fit of `split`, or the fits of pairs of modalities over the same samples. The function also
    writes the list and the scatter plot if the command line asks for them.
    """
    from mgap_cli.analysis.breakdown import breakdown, usual_columns, where
    from mgap_cli.analysis.identification import identify
    from mgap_cli.report.tables import gap as tables
    from mgap_cli.report.tables import gap_analysis as gap_tables

    condition, truth = " and ".join(request.where), config.analysis.truth
    document: dict[str, Any] = {"where": list(request.where), "by": {}}
    printed: list[RenderableType] = []
    first = next(iter(fits.values()))
    chosen = where(first, request.where)
    for name, fit in fits.items():
        title = name if len(fits) > 1 else split or ""
        columns = dict.fromkeys([*usual_columns(fit), *request.by])
        breakdowns = [breakdown(fit, column, chosen, config.analysis) for column in columns]
        document["by"][name] = [b.to_dict() for b in breakdowns]
        printed += [gap_tables.breakdown_table(b, fit, title, condition) for b in breakdowns]
        if truth:
            known = identify(fit, truth, chosen, config.analysis)
            if known:
                document.setdefault("identification", {})[name] = known.to_dict()
                printed.append(gap_tables.identification_table(known, title, condition))
            else:
                sink.warn(f"column {truth} has one value for all these samples: nothing to identify.")
        printed.append(tables.lead_table(fit, config.analysis.confidence, title))
        if request.top:
            printed.append(tables.posterior_table(fit, request.top, title, chosen))
        if request.plot and sys.stdout.isatty():
            from mgap_cli.report.figures.terminal import GapPlot

            printed.append(GapPlot(fit, title))
    if request.human:
        compared, table = _compared(first, chosen, config, request, human_png, sink)
        document["human"] = compared
        printed.append(table)
    if request.export:
        document["exported"] = _export(list(fits.values()), chosen, request, request.export, sink)
    if request.relabel:
        document["relabel"] = _relabel(list(fits.values()), chosen, config, request.relabel, sink)
    return document, printed


def _relabel(
    fits: Sequence[GapFit], chosen: BoolArray, config: Config, path: Path, sink: Output
) -> dict[str, Any]:
    """Write the candidates for relabelling, if there are any; return the files that were written."""
    from mgap_cli.analysis.label_candidates import label_candidates
    from mgap_cli.files import write_text_once
    from mgap_cli.report.documents import relabel_csv

    confidence = config.analysis.relabel_confidence
    candidates = label_candidates([fit.scores for fit in fits], chosen, confidence)
    write_text_once(path, relabel_csv(candidates))
    sink.log(f"wrote {path}: {len(candidates.ids)} of {int(chosen.sum())} samples may be labelled wrongly")
    return {"path": str(path), "confidence": confidence, "samples": len(candidates.ids)}


def _compared(
    fit: GapFit, chosen: BoolArray, config: Config, request: Request, png: Path, sink: Output
) -> tuple[dict[str, Any], RenderableType]:
    from mgap_cli.analysis.listener_votes import read_votes
    from mgap_cli.analysis.listeners import compare_with_people
    from mgap_cli.report.tables.gap_analysis import human_table

    if len(fit.scores.modalities) != 2:
        raise UsageError("--human compares the gap with that of human votes. It needs two modalities.")

    assert request.human
    comparison = compare_with_people(fit, read_votes(request.human), config.gap, config.analysis, chosen)
    if comparison.unmatched:
        sink.warn(f"{len(comparison.unmatched)} samples have no votes for voice and face and are left out.")
    if request.plot:
        from mgap_cli.report.figures.gap import write_png
        from mgap_cli.report.figures.listeners import human_figure

        write_png(human_figure(comparison, fit), png, sink)
    return comparison.to_dict(), human_table(comparison, condition=" and ".join(request.where))


def _export(
    fits: Sequence[GapFit], chosen: BoolArray, request: Request, path: Path, sink: Output
) -> dict[str, Any]:
    """Write the samples that are balanced in every fit, or imbalanced in one; return the written files."""
    import numpy as np

    from mgap_cli.files import write_text_once
    from mgap_cli.report.documents import list_csv

    imbalanced = np.any([fit.imbalanced for fit in fits], axis=0)
    rows = np.flatnonzero(chosen & (imbalanced if request.exported == "imbalanced" else ~imbalanced))
    if not len(rows):
        raise UsageError(f"--export: no sample is {request.exported}; nothing was written.")
    write_text_once(path, list_csv(fits[0], rows.tolist()))
    sink.log(f"wrote {path}: {len(rows)} {request.exported} of {int(chosen.sum())} samples")
    return {"path": str(path), "which": request.exported, "samples": len(rows)}
