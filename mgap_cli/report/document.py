"""The JSON documents and CSV files that commands leave: plain values, no NaN, a `schema` field."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mgap_cli.data.summary import Summary
from mgap_cli.evaluation.metrics import Comparison, Evaluation
from mgap_cli.gap.mixture import GapFit


def path_document(command: str, path: object, **more: Any) -> dict[str, Any]:
    """Return the document of a command whose result is the path it wrote."""
    return {"schema": f"mgap.{command}/1", "path": str(path), **more}


def store_document(summary: Summary, verified: bool, plot: object) -> dict[str, Any]:
    """Return what inspect found; `verified` and `plot`, the PNG written, are null where nobody asked."""
    written = None if plot is None else str(plot)
    return {"schema": "mgap.inspect/1", **summary.to_dict(), "verified": verified or None, "plot": written}


def gap_document(checkpoint: object, split: str, fits: Mapping[str, GapFit]) -> dict[str, Any]:
    """Return what analyze-gap found: the summary, and `samples`, a row each, of the chosen split."""
    samples = [dict(zip(GAP_COLUMNS, row, strict=True)) for row in gap_rows(fits[split])]
    return {**gap_summary(checkpoint, split, fits), "samples": samples}


def gap_summary(checkpoint: object, split: str, fits: Mapping[str, GapFit]) -> dict[str, Any]:
    """Return the fit of each split; `split` is the one that was asked for."""
    return {
        "schema": "mgap.analyze-gap/1",
        "checkpoint": str(checkpoint),
        "split": split,
        "fits": {name: _fit_document(fit) for name, fit in fits.items()},
    }


def evaluation_document(
    evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison]
) -> dict[str, Any]:
    """Return what evaluate found."""
    return {
        "schema": "mgap.evaluate/1",
        "evaluations": [e.to_dict() for e in evaluations],
        "comparisons": [c.to_dict() for c in comparisons],
    }


GAP_COLUMNS = (
    "id",
    "label",
    "p_audio",
    "p_visual",
    "gap",
    "posterior",
    "component",
    "predicted_fused",
    "predicted_audio",
    "predicted_visual",
)


def gap_rows(fit: GapFit) -> list[tuple[Any, ...]]:
    """Return a row a sample, most imbalanced first, with the fields of GAP_COLUMNS."""
    scores, names = fit.scores, fit.scores.classes
    order = np.lexsort((-np.abs(scores.gap), -fit.posterior))

    def predicted(head: str, i: int) -> str:
        return names[scores.predicted[head][i]] if head in scores.predicted else ""

    return [
        (
            scores.ids[i],
            names[scores.labels[i]],
            float(scores.p_audio[i]),
            float(scores.p_visual[i]),
            float(scores.gap[i]),
            float(fit.posterior[i]),
            fit.mixture.role(int(fit.component[i])),
            *(predicted(head, i) for head in ("fused", "audio", "visual")),
        )
        for i in order
    ]


def gap_csv(fit: GapFit) -> str:
    """Return the per-sample table as CSV text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(GAP_COLUMNS)
    writer.writerows(gap_rows(fit))
    return text.getvalue()


def _fit_document(fit: GapFit) -> dict[str, Any]:
    mixture = fit.mixture
    return {
        "n": len(fit.scores),
        "kind": mixture.kind,
        "components": [
            {
                "role": mixture.role(k),
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
        "audio_leads": float(np.mean(fit.scores.gap > 0)),
        "bic": {str(k): v for k, v in fit.bic.items()},
        "log_likelihood": fit.log_likelihood,
        "crossing": fit.crossing,
        "warnings": fit.warnings,
    }
