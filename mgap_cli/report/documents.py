"""The JSON documents and CSV files that commands write: plain values, no NaN, a `schema` field."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from mgap_cli.analysis.causes import ModalityCause
from mgap_cli.analysis.label_candidates import Candidates
from mgap_cli.analysis.movement import SIDES, Movement
from mgap_cli.comparison.cell_result import CellResult
from mgap_cli.comparison.plan import TRIAL_SEED
from mgap_cli.comparison.statistics import ComparisonTable
from mgap_cli.comparison.tuning import Tuning
from mgap_cli.data.summary import Summary
from mgap_cli.evaluation.metrics import Comparison
from mgap_cli.evaluation.seeds import RunGroup, SeedComparison, spreads
from mgap_cli.gap.mixture import GapFit
from mgap_cli.report.schemas import schema

if TYPE_CHECKING:
    from mgap_cli.evaluation.evaluate import Judgement  # its module imports torch

MOVEMENT_SCHEMA = schema("movement")


def path_document(command: str, path: object, **more: Any) -> dict[str, Any]:
    """Return the document of a command whose result is the path it wrote."""
    return {"schema": schema(command), "path": str(path), **more}


def store_document(summary: Summary, verified: bool, plot: object) -> dict[str, Any]:
    """Return the document of inspect; `verified` and `plot` (the PNG file) are null unless asked for."""
    written = None if plot is None else str(plot)
    return {"schema": schema("inspect"), **summary.to_dict(), "verified": verified or None, "plot": written}


def gap_document(
    source: object,
    split: str,
    fits: Mapping[str, GapFit],
    detailed: Sequence[str],
    top: int | None = None,
    causes: Sequence[ModalityCause] = (),
    scores: str = "",
) -> dict[str, Any]:
    """Return the document of analyze-gap: the summary, and one row per sample for the fits `detailed`.

    top: the largest number of samples of each fit, the most imbalanced first.
    """
    samples = [
        dict(zip(gap_columns(fits[name]), row, strict=True))
        for name in detailed
        for row in gap_rows(fits[name], top)
    ]
    return {**gap_summary(source, split, fits, causes, scores), "samples": samples}


def gap_summary(
    source: object,
    split: str,
    fits: Mapping[str, GapFit],
    causes: Sequence[ModalityCause] = (),
    scores: str = "",
) -> dict[str, Any]:
    """Return the fit of each split or, for a file of scores, of each pair of modalities.

    split: the split that was asked for; "" for a file of scores. causes: those of `analyze-gap --held-out`.
    scores: the setting `gap.scores`; "" for a file of scores.
    """
    return {
        "schema": schema("analyze-gap"),
        "checkpoint" if split else "scores": str(source),
        "split": split,
        "fits": {name: _fit_document(fit) for name, fit in fits.items()},
        **({"causes": [cause.to_dict() for cause in causes]} if causes else {}),
        **({"gap_scores": scores} if scores else {}),
    }


def evaluation_document(
    judged: Sequence[Judgement],
    comparisons: Sequence[Comparison],
    groups: Sequence[RunGroup] = (),
    seed_comparisons: Sequence[SeedComparison] = (),
    verdict: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the document of evaluate: each checkpoint, and methods over their seeds.

    verdict: the sentences of `verdict.verdict`. The field sha256 shows whether the document is outdated.
    """
    return {
        "schema": schema("evaluate"),
        "verdict": list(verdict),
        "evaluations": [j.to_dict() for j in judged],
        "comparisons": [c.to_dict() for c in comparisons],
        "groups": [_group_document(group, judged) for group in groups],
        "group_comparisons": [c.to_dict() for c in seed_comparisons],
        "correction": "Holm, over all comparisons of a kind",
        "sha256": {str(j.path): j.digest for j in judged},
    }


def comparison_document(
    table: ComparisonTable, sentences: Sequence[str], cells: Sequence[CellResult]
) -> dict[str, Any]:
    """Return a comparison with every value by seed; shares are from 0 to 1."""
    return {
        "schema": schema("compare"),
        "metric": table.metric,
        "reference": table.reference,
        "tests": table.tests,
        "conclusion": list(sentences),
        "rows": [asdict(row) for row in table.rows],
        "ranks": asdict(table.ranks) if table.ranks else None,
        "tunings": [tuning_document(tuning) for tuning in table.tunings],
        "cells": [asdict(cell) for cell in cells],
    }


def tuning_document(tuning: Tuning) -> dict[str, Any]:
    """Return how a method's settings on a store were chosen, with every trial in its order.

    trials: their number. seed: of all of them. accuracy: on validation, from 0 to 1; 0 for a trial that
    failed.
    """
    return {
        "store": tuning.store,
        "method": tuning.method,
        "trials": len(tuning.trials),
        "seed": TRIAL_SEED,
        "chosen": asdict(tuning.chosen),
        "outcomes": [asdict(trial) for trial in tuning.trials],
    }


def _group_document(group: RunGroup, judged: Sequence[Judgement]) -> dict[str, Any]:
    figures = spreads(group, [j.evaluation for j in judged])
    return {
        "name": group.name,
        "stage": group.stage,
        "method": group.method,
        "settings": group.settings,
        "checkpoints": {seed: str(judged[i].path) for seed, i in group.members.items()},
        "figures": {name: spread.to_dict() for name, spread in figures.items()},
    }


def gap_columns(fit: GapFit) -> tuple[str, ...]:
    """Return the names of the fields of `gap_rows`."""
    modalities = fit.scores.modalities
    heads = ("fused", *modalities)
    scores = (f"p_{name}" for name in modalities)
    columns = ("id", "label", *scores, "gap", "posterior", "component", *(f"predicted_{h}" for h in heads))
    return (*columns, "loss_fused", "margin_fused")


def gap_rows(fit: GapFit, top: int | None = None) -> list[tuple[Any, ...]]:
    """Return one row per sample, most imbalanced first, at most `top`, with the fields of `gap_columns`."""
    scores, names = fit.scores, np.array(fit.scores.classes, dtype=object)
    order = np.lexsort((-np.abs(scores.gap), -fit.posterior))[:top]
    roles = np.array([fit.role(k) for k in range(len(fit.mixture.weights))], dtype=object)
    none = [""] * len(order)
    predicted = (
        names[scores.predicted[head][order]].tolist() if head in scores.predicted else none
        for head in ("fused", *scores.modalities)
    )
    fused = (
        none if values is None else values[order].tolist()
        for values in (scores.fused_loss, scores.fused_margin)
    )
    numbers = (*scores.p.values(), scores.gap, fit.posterior)
    return list(
        zip(
            [scores.ids[i] for i in order],
            names[scores.labels[order]].tolist(),
            *(values[order].tolist() for values in numbers),
            roles[fit.component[order]].tolist(),
            *predicted,
            *fused,
            strict=True,
        )
    )


def gap_csv(fit: GapFit) -> str:
    """Return the per-sample table as CSV text."""
    return _csv(gap_columns(fit), gap_rows(fit))


def movement_document(movement: Movement, digests: Mapping[str, str]) -> dict[str, Any]:
    """Return the document of analyze-gap for several checkpoints; `digests` are theirs, by path."""
    return {"schema": MOVEMENT_SCHEMA, "sha256": dict(digests), **movement.to_dict()}


def movement_csv(movement: Movement) -> str:
    """Return one row per sample: its gap at each checkpoint, its posteriors by both mixtures.

    Columns end in the number of the checkpoint, from 1; `sides` are those by the fixed one.
    """
    scores, numbers = movement.scores, range(1, len(movement.fits) + 1)
    quantities = ("gap", "fixed_posterior", "refitted_posterior")
    header = ["id", "label", *(f"{name}_{k}" for k in numbers for name in quantities)]
    values = [
        column
        for k, fit in enumerate(movement.fits)
        for column in (fit.scores.gap.tolist(), movement.fixed_posteriors[k].tolist(), fit.posterior.tolist())
    ]
    sides = ("-".join(SIDES[side] for side in column) for column in movement.imbalanced.T.tolist())
    labels = (scores.classes[label] for label in scores.labels.tolist())
    return _csv([*header, "sides"], zip(scores.ids, labels, *values, sides, strict=True))


def list_csv(fit: GapFit, rows: Sequence[int]) -> str:
    """Return the samples at some positions as a list for `adapt --only` and other programs."""
    scores = fit.scores
    lines = ((scores.ids[i], scores.classes[scores.labels[i]], scores.gap[i], fit.posterior[i]) for i in rows)
    return _csv(("id", "label", "gap", "posterior"), lines)


def relabel_csv(candidates: Candidates) -> str:
    """Return the samples that may be labelled wrongly, the most confident first."""
    header = ("id", "label", "suggested", *(f"confidence_{name}" for name in candidates.confidence))
    confidences = (values.tolist() for values in candidates.confidence.values())
    rows = zip(candidates.ids, candidates.labels, candidates.suggested, *confidences, strict=True)
    return _csv(header, list(rows))


def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _fit_document(fit: GapFit) -> dict[str, Any]:
    mixture = fit.mixture
    return {
        "n": len(fit.scores),
        "kind": mixture.gap_kind,
        "modalities": list(fit.scores.modalities),
        "components": [
            {
                "role": fit.role(k),
                "weight": float(mixture.weights[k]),
                "mean": float(mixture.means[k]),
                "sd": float(mixture.sds[k]),
                "share": float(np.mean(fit.component == k)),
            }
            for k in range(len(mixture.weights))
        ],
        "balanced_share": fit.balanced_share,
        "mean_absolute_gap": float(np.abs(fit.scores.gap).mean()),
        "mean_gap": float(fit.scores.gap.mean()),
        **{f"{name}_leads": float(np.mean(fit.scores.leads(name))) for name in fit.scores.modalities},
        "bic": {str(k): v for k, v in fit.bic.items()},
        "icl": {str(k): v for k, v in fit.icl.items()},
        "log_likelihood": fit.log_likelihood,
        "crossing": fit.crossing,
        "bimodality": fit.bimodality.to_dict() if fit.bimodality else None,
        "warnings": fit.warnings,
    }
