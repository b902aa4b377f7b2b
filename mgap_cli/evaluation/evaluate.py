"""From checkpoints to evaluations: every sample of a split, once, on the same footing."""

from __future__ import annotations

from collections.abc import Sequence

from mgap_cli.config import EvaluateConfig
from mgap_cli.errors import UsageError
from mgap_cli.evaluation.metrics import Comparison, Evaluation, compare, summarise
from mgap_cli.gap.mixture import Mixture, fit_mixture
from mgap_cli.gap.scores import true_class_probability
from mgap_cli.training.restore import TrainedModel


def evaluate(models: Sequence[TrainedModel], split: str, config: EvaluateConfig) -> list[Evaluation]:
    """Evaluate models on a split.

    The balanced share of each is counted with one mixture, fitted to the gaps of the first that has
    both modalities, so that the shares compare. Raises UsageError if the models differ in their data.
    """
    if len({model.store.fingerprint for model in models}) > 1:
        raise UsageError(
            "the checkpoints were trained on different data sets, and their accuracies do not compare.",
            "Evaluate them one at a time.",
        )
    mixture: Mixture | None = None
    evaluations = []
    for model in models:
        found = model.predict(split)
        both = {"audio", "visual"} <= set(model.heads)
        p = {m: true_class_probability(found.probabilities[m], found.labels) for m in ("audio", "visual")}
        gap = p["audio"] - p["visual"]
        if both and mixture is None:
            mixture, _ = fit_mixture(gap, model.config.gap)
        evaluations.append(
            summarise(
                [model.store.ids[i] for i in found.index],
                found.labels,
                model.store.classes,
                {head: found.probabilities[head] for head in model.heads},
                p["audio"] if both else None,
                p["visual"] if both else None,
                config=config,
                name=_name(model),
                split=split,
                stage=model.content["stage"],
                objective=model.content["objective"],
                seed=str(model.config.train.seed),
                posterior=mixture.posterior(gap) if both and mixture is not None else None,
            )
        )
    return evaluations


def _name(model: TrainedModel) -> str:
    """Return run folder and file, with what a reader must know of how the epoch was chosen."""
    chosen = " (selected on test)" if model.content["selected"].get("on") == "test" else ""
    return f"{model.path.parent.name}/{model.path.stem}{chosen}"


def compare_with_first(evaluations: Sequence[Evaluation], config: EvaluateConfig) -> list[Comparison]:
    """Compare each evaluation's fused accuracy with the first's; none for heads that one of them lacks."""
    first, *others = evaluations
    return [compare(first, e, config) for e in others if "fused" in first.heads and "fused" in e.heads]
