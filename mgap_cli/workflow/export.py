"""Export the predictions of a checkpoint: run the network, apply a decision rule, write one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgap_cli.output import Output
from mgap_cli.processes import is_main

if TYPE_CHECKING:
    from mgap_cli.config import Config


def export_predictions(
    checkpoint: Path, output: Path, split: str, config: Config, store: Path | None, sink: Output
) -> dict[str, Any]:
    """Write the predictions of every head and the decision of `evaluate.rule`; return the document.

    store: the folder of the data, if it is not the one that the checkpoint names. Raises UsageError for a
    file name without a known format, and UnfitError for a rule that cannot be fitted.
    """
    from mgap_cli.evaluation.evaluate import scored, validation_of
    from mgap_cli.evaluation.rule_table import decide, fitted_decision
    from mgap_cli.files import ensure_output_allowed
    from mgap_cli.report.documents import path_document
    from mgap_cli.report.prediction_files import Predicted, require_suffix, write_predictions
    from mgap_cli.training.device import choose_scoring_device
    from mgap_cli.training.trained_model import open_trained

    require_suffix(output)
    ensure_output_allowed(output, [checkpoint])
    device = choose_scoring_device(config.runtime, sink)
    model = open_trained(checkpoint, device, store, config.runtime.eval_batch_size)
    predictions = model.predict(split)
    decision = fitted_decision(config.evaluate.rule, validation_of(model, split, predictions), checkpoint)
    predicted = Predicted(
        [model.store.ids[i] for i in predictions.index],
        split,
        model.store.classes,
        predictions.labels,
        {head: predictions.probabilities[head] for head in model.heads},
        decide(decision, scored(model, predictions), split == "val"),
        decision.name,
    )
    if is_main():
        write_predictions(predicted, output)
    return path_document(
        "export",
        output,
        checkpoint=str(checkpoint),
        split=split,
        n=len(predictions.labels),
        heads=list(predicted.heads),
        decision=decision.to_dict(),
    )
