"""Read the files of `analyze-gap` back as the fit that it wrote."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mgap_cli.gap.bimodality import Bimodality, Test
from mgap_cli.gap.mixture import GapFit, Mixture
from mgap_cli.gap.score_files import read_scores


def saved_fit(
    csv: Path, document: Mapping[str, Any], columns: Mapping[str, Mapping[str, str]] | None = None
) -> GapFit:
    """Return the fit of gap.csv and of its split in gap.json, without fitting anything again.

    columns: other columns of the samples, {column: {id: text}}. Raises UnfitError for a file without scores,
    KeyError and ValueError for a document that mgap did not write.
    """
    scores = read_scores(csv, document["modalities"], ())
    known = {name: [values.get(id_, "") for id_ in scores.ids] for name, values in (columns or {}).items()}
    scores = dataclasses.replace(scores, columns=known)
    components = document["components"]
    weights, means, sds = (
        np.array([component[key] for component in components], dtype=np.float64)
        for key in ("weight", "mean", "sd")
    )
    balanced = next(k for k, component in enumerate(components) if component["role"] == "balanced")
    mixture = Mixture(document["kind"], weights, means, sds, balanced)
    posterior = mixture.posterior(scores.gap)
    return GapFit(
        scores=scores,
        mixture=mixture,
        posterior=posterior,
        component=mixture.components(scores.gap, posterior),
        bic={int(k): value for k, value in document["bic"].items()},
        icl={int(k): value for k, value in document["icl"].items()},
        log_likelihood=document["log_likelihood"],
        crossing=document["crossing"],
        warnings=list(document["warnings"]),
        bimodality=_bimodality(document["bimodality"]) if document["bimodality"] else None,
    )


def _bimodality(document: Mapping[str, Any]) -> Bimodality:
    intervals = document["intervals"]

    def test(name: str) -> Test | None:
        record = document["tests"].get(name)  # documents of earlier versions lack a test
        return Test(record["statistic"], record["p_value"]) if record else None

    def pair(values: Sequence[float] | None) -> tuple[float, float] | None:
        return (values[0], values[1]) if values else None

    def pairs(name: str) -> tuple[tuple[float, float], ...]:
        return tuple((low, high) for low, high in intervals[name])

    return Bimodality(
        verdict=document["verdict"],
        sentence=document["sentence"],
        resamples=document["resamples"],
        confidence=document["confidence"],
        ratio=test("likelihood_ratio"),
        log_concave=test("log_concave"),
        dip=test("dip"),
        fit=test("kolmogorov_smirnov"),
        weights=pairs("weights"),
        means=pairs("means"),
        sds=pairs("sds"),
        balanced=pair(intervals["balanced_share"]),
        lead=document["first_leads_of_imbalanced"],
        lead_interval=pair(intervals["first_leads_of_imbalanced"]),
        rounded_to=document.get("rounded_to"),
    )
