"""The part of `analyze-gap --measures`: imbalance by measures other than the gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgap_cli.output import Output

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mgap_cli.config import Config
    from mgap_cli.gap.mixture import GapFit
    from mgap_cli.training.trained_model import TrainedModel


def checked_unimodal(words: Sequence[str], sink: Output) -> dict[str, Path]:
    """Read the checkpoints of --unimodal before any pass; for a run folder, read its last checkpoint."""
    from mgap_cli.analysis.measures.every import unimodal_paths
    from mgap_cli.runs.run_checkpoints import checkpoint_in

    return {modality: checkpoint_in(path, sink) for modality, path in unimodal_paths(words).items()}


def model_measures(
    model: TrainedModel, split: str, config: Config, unimodal: Mapping[str, Path]
) -> tuple[dict[str, Any], list[RenderableType]]:
    """Return every measure of a checkpoint, for the document and as a table."""
    from mgap_cli.analysis.measures.every import measures_of_model
    from mgap_cli.report.tables.measures import measures_table

    measures = measures_of_model(model, split, config, unimodal)
    first, second = model.network.encoders
    document = {"measures": {split: [m.to_dict((first, second)) for m in measures]}}
    return document, [measures_table(measures, (first, second), config.analysis.confidence, split)]


def score_measures(fits: Mapping[str, GapFit], config: Config) -> tuple[dict[str, Any], list[RenderableType]]:
    """Return for each pair of modalities the measures that need scores only."""
    from mgap_cli.analysis.measures.every import measures_of_scores
    from mgap_cli.report.tables.measures import measures_table

    document: dict[str, Any] = {}
    tables = []
    for name, fit in fits.items():
        measures = measures_of_scores(fit.scores, config)
        first, second = fit.scores.modalities
        document[name] = [m.to_dict((first, second)) for m in measures]
        where = name if len(fits) > 1 else ""
        tables.append(measures_table(measures, (first, second), config.analysis.confidence, where))
    return {"measures": document}, tables
