"""Evaluate checkpoints on every sample of a split, all in the same way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mgap_cli.config import Config
from mgap_cli.data.store import Store
from mgap_cli.errors import UsageError
from mgap_cli.evaluation.by_column import ByColumn, by_column
from mgap_cli.evaluation.decision_rules import DEFAULT
from mgap_cli.evaluation.metrics import DECISION, Evaluation, summarise
from mgap_cli.evaluation.robustness import Measured, sweep
from mgap_cli.evaluation.rule_table import (
    Decision,
    RuleTable,
    Scored,
    decide,
    fitted_decision,
    rule_table,
)
from mgap_cli.gap.mixture import Mixture, fit_mixture
from mgap_cli.gap.scores import scores_of
from mgap_cli.model.inference import Predictions
from mgap_cli.training.trained_model import TrainedModel


@dataclass(frozen=True)
class Judgement:
    """The evaluation of one checkpoint.

    robustness: one row per condition, the clean one first; or empty. rules: None for a network with one head.
    decision: the rule that is used instead of the fused head. digest: SHA-256 of the file. parent_digest:
    SHA-256 of the checkpoint that its stage continued from; empty for new weights.
    """

    path: Path
    config: Config
    evaluation: Evaluation
    by: list[ByColumn]
    robustness: list[Measured]
    rules: RuleTable | None = None
    decision: Decision | None = None
    digest: str = ""
    parent_digest: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.evaluation.to_dict(),
            "checkpoint": str(self.path),
            "by": [breakdown.to_dict() for breakdown in self.by],
            "robustness": [measured.to_dict() for measured in self.robustness],
            "decision_rules": self.rules.to_dict() if self.rules else None,
            "decision": self.decision.to_dict() if self.decision else None,
        }


def evaluate(
    models: Iterable[TrainedModel],
    split: str,
    config: Config,
    by: Sequence[str] = (),
    robustness: bool = False,
    tick: Callable[[], None] = lambda: None,
) -> list[Judgement]:
    """Evaluate models on a split, one after another, so that each can be freed before the next is opened.

    One mixture gives the balanced share of every model, so that the shares can be compared. It is fitted to
    the gaps of the first model that has every modality. by: columns to break accuracy down by. tick: called
    after each pass over a split: this one, then validation, where decision rules are fitted. Raises
    UsageError if the models differ in their data, UnfitError for a rule that cannot be fitted.
    """
    mixture: Mixture | None = None
    first: tuple[Path, Store] | None = None
    judged, endings = [], []
    for model in models:
        first = first or (model.path, model.store)
        _check_same_data(*first, model)
        predictions = model.predict(split)
        tick()
        whole = model.scores_every_modality
        scores = scores_of(predictions, model.store.ids, model.store.classes, model.store.columns)
        if whole and mixture is None:
            mixture, _ = fit_mixture(scores.gap, model.config.gap)
        samples, validation = scored(model, predictions), validation_of(model, split, predictions)
        tick()
        probabilities = {head: predictions.probabilities[head] for head in model.heads}
        decision = None
        if config.evaluate.rule != DEFAULT:
            decision = fitted_decision(config.evaluate.rule, validation, model.path)
            probabilities = {DECISION: decide(decision, samples, split == "val"), **probabilities}
        evaluation = summarise(
            scores.ids,
            predictions.labels,
            model.store.classes,
            probabilities,
            scores if whole else None,
            config=config.evaluate,
            name=str(model.path),
            split=split,
            stage=model.checkpoint.stage,
            method=model.checkpoint.method,
            seed=str(model.config.train.seed),
            modalities=tuple(model.network.encoders),
            posterior=mixture.posterior(scores.gap) if whole and mixture is not None else None,
        )
        columns = [
            by_column(scores, evaluation.correct, column, config.evaluate, config.analysis.bins)
            for column in dict.fromkeys(by)
        ]
        rule = decision.rule if decision else None
        measured = sweep(model, split, predictions, config.evaluate, tick, rule) if robustness else []
        rules = rule_table(samples, validation, split, config.evaluate)
        endings.append(" (selected on test)" if model.checkpoint.selected.get("on") == "test" else "")
        digests = model.digest, model.checkpoint.parent_digest
        judged.append(
            Judgement(model.path, model.config, evaluation, columns, measured, rules, decision, *digests)
        )
    names = _names([j.path for j in judged])
    return [
        replace(j, evaluation=replace(j.evaluation, name=f"{names[j.path]}{ending}"))
        for j, ending in zip(judged, endings, strict=True)
    ]


def scored(model: TrainedModel, predictions: Predictions) -> Scored:
    """Return the predictions of the trained heads, for decision rules."""
    return Scored.of({head: predictions.probabilities[head] for head in model.heads}, predictions.labels)


def validation_of(model: TrainedModel, split: str, predictions: Predictions) -> Scored | None:
    """Return the predictions on the validation split, or None; for `val` they are `predictions`."""
    if split == "val":
        return scored(model, predictions)
    return scored(model, model.predict("val")) if (model.store.splits == "val").any() else None


def _check_same_data(path: Path, store: Store, model: TrainedModel) -> None:
    if (store.fingerprint, store.classes) != (model.store.fingerprint, model.store.classes):
        raise UsageError(
            f"{path} and {model.path} were trained on different data sets, "
            f"{store.path} and {model.store.path}: their accuracies cannot be compared.",
            "Evaluate them one at a time.",
        )


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    """Name each checkpoint by its run folder and file, and by its whole path if two names are equal."""
    short = {path: f"{path.resolve().parent.name}/{path.stem}" for path in paths}
    times = Counter(short.values())
    return {path: name if times[name] == 1 else str(path.with_suffix("")) for path, name in short.items()}
