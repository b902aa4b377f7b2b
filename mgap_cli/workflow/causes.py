"""The reason why each modality of a checkpoint lags, for `analyze-gap --held-out`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mgap_cli.analysis.causes import ModalityCause
    from mgap_cli.config import Config
    from mgap_cli.training.trained_model import TrainedModel


def diagnosis(model: TrainedModel, config: Config) -> list[ModalityCause]:
    """Return the diagnosis of every modality."""
    from mgap_cli.analysis.causes import diagnose

    validated = (model.store.splits == "val").any()
    validation = model.scores("val") if validated else None
    return diagnose(*model.training_scores(), validation, config.analysis.confidence)
