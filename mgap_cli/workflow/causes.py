"""The reason why each modality of a checkpoint lags, for `analyze-gap --held-out`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mgap_cli.config import Config
    from mgap_cli.training.trained_model import TrainedModel


def diagnosis(model: TrainedModel, config: Config) -> tuple[list[dict[str, Any]], list[RenderableType]]:
    """Return the diagnosis of every modality, for the document and as a table."""
    from mgap_cli.analysis.causes import diagnose
    from mgap_cli.report.tables.causes import causes_table

    validated = (model.store.splits == "val").any()
    validation = model.scores("val") if validated else None
    confidence = config.analysis.confidence
    causes = diagnose(*model.training_scores(), validation, confidence)
    return [cause.to_dict() for cause in causes], [causes_table(causes, confidence)]
