"""Decision rules on one split: the accuracy of each, and whether it differs from that of the fused head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mgap_cli.config import EvaluateConfig
from mgap_cli.errors import UnfitError
from mgap_cli.evaluation.cross_fitting import cross_fitted
from mgap_cli.evaluation.decision_rules import AUTO, DEFAULT, listed_rules, load_rule
from mgap_cli.evaluation.decision_rules.auto import Auto
from mgap_cli.evaluation.decision_rules.base import DecisionRule, Heads
from mgap_cli.evaluation.metrics import accuracy, bootstrap_mean, share_interval
from mgap_cli.gap.scores import FUSED
from mgap_cli.stats.arrays import BoolArray, FloatArray, IntArray
from mgap_cli.stats.intervals import Interval
from mgap_cli.stats.multiple_testing import holm
from mgap_cli.stats.opinion_pool import log_probabilities
from mgap_cli.stats.paired import McNemar, mcnemar


@dataclass(frozen=True)
class Scored:
    """Samples with their labels (N,) and the log-probabilities (N, C) of each head."""

    heads: Heads
    labels: IntArray

    @staticmethod
    def of(probabilities: Mapping[str, FloatArray], labels: IntArray) -> Scored:
        """Return the samples of probabilities (N, C) by head."""
        return Scored(log_probabilities(probabilities), labels)


@dataclass(frozen=True)
class RuleRow:
    """One rule, or one unimodal head alone, on a split.

    difference: its accuracy minus the fused head's. correct: (N,), whether its class is right. validation:
    its accuracy on the validation split, cross-fitted if the rule learns; None without that split. adjusted:
    McNemar's p after Holm's correction over all rows except the fused head's.
    """

    name: str
    is_head: bool
    accuracy: float
    interval: Interval
    difference: float
    difference_interval: Interval
    test: McNemar
    correct: BoolArray = field(repr=False, compare=False)
    validation: float | None
    adjusted: float = 1.0

    @property
    def text(self) -> str:
        """Return the name in words."""
        return f"{self.name} alone" if self.is_head else self.name

    def to_dict(self) -> dict[str, Any]:
        return {
            "head" if self.is_head else "rule": self.name,
            "accuracy": self.accuracy,
            "accuracy_interval": self.interval.to_list(),
            "difference_to_fused": self.difference,
            "difference_interval": self.difference_interval.to_list(),
            "mcnemar_p": self.test.p_value,
            "mcnemar_p_holm": self.adjusted,
            "validation_accuracy": self.validation,
        }


@dataclass(frozen=True)
class RuleTable:
    """All rules on a split. chosen: the rule that validation chooses; None without validation samples."""

    split: str
    confidence: float
    rows: tuple[RuleRow, ...]
    chosen: str | None

    def decisions(self) -> dict[str, BoolArray]:
        """Return (N,) whether each rule is right, by name; `auto` is the rule that validation chooses."""
        correct = {row.name: row.correct for row in self.rows if not row.is_head}
        return {**correct, AUTO: correct[self.chosen]} if self.chosen else correct

    @property
    def better(self) -> list[RuleRow]:
        """Return the rows that are significantly more accurate than the fused head, by Holm's method."""
        return [row for row in self.rows if row.difference > 0 and row.adjusted < 1 - self.confidence]

    @property
    def sentence(self) -> str:
        """Return a sentence on the rules and single heads that beat the fused head on the split, or ""."""
        if not self.better:
            return ""
        names = ", ".join(row.text for row in self.better)
        best = max(self.better, key=lambda row: row.difference)
        low, high = (100 * end for end in best.difference_interval.to_list())
        return (
            f"On {self.split}, the fused head is not the best decision. More accurate, with p < "
            f"{1 - self.confidence:.2g} after Holm's correction: {names}. The largest difference is "
            f"{100 * best.difference:+.1f} points ({low:+.1f} to {high:+.1f}), with {best.text}."
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "chosen_by_validation": self.chosen,
            "rows": [row.to_dict() for row in self.rows],
            "sentence": self.sentence,
        }


@dataclass(frozen=True)
class Decision:
    """The rule that decides. asked: its name on the command line. rule: the fitted rule."""

    asked: str
    rule: DecisionRule

    @property
    def name(self) -> str:
        """Return the name of the rule that decides: the one that `auto` chose or the user asked for."""
        return self.rule.chosen.name if isinstance(self.rule, Auto) else self.asked

    def to_dict(self) -> dict[str, Any]:
        return {"asked": self.asked, "name": self.name, "parameters": self.rule.parameters()}


def fitted_decision(asked: str, validation: Scored | None, where: object) -> Decision:
    """Return a rule fitted on validation. where: the checkpoint, for the message.

    Raises UsageError for an unknown rule, and UnfitError for a rule that learns if there is no validation
    split.
    """
    rule = load_rule(asked)
    if not rule.learns:
        return Decision(asked, rule())
    if validation is None:
        simple = ", ".join(each.name for each in listed_rules() if not each.learns)
        raise UnfitError(
            f"{where}: its store has no validation samples, and --rule {asked} learns from them.",
            f"Choose a rule that learns nothing: {simple}.",
        )
    return Decision(asked, rule.fit(validation.heads, validation.labels))


def decide(decision: Decision, samples: Scored, on_validation: bool) -> FloatArray:
    """Return the probabilities (N, C) of a decision; cross-fitted if the samples are the validation split."""
    if on_validation:
        return cross_fitted(type(decision.rule), samples.heads, samples.labels)
    return decision.rule.combine(samples.heads)


def rule_table(
    samples: Scored, validation: Scored | None, split: str, config: EvaluateConfig
) -> RuleTable | None:
    """Return every rule and every unimodal head on a split; None if the fused head or the others are missing.

    Rules that learn are left out if there is no validation split. On the validation split they are
    cross-fitted.
    """
    if FUSED not in samples.heads or len(samples.heads) < 2:
        return None
    auto = Auto.fit(validation.heads, validation.labels) if validation else None
    rules = [rule for rule in listed_rules() if auto or not rule.learns]
    predicted, on_validation = {}, {}
    for rule in rules:
        if split == "val" or auto is None:
            p = cross_fitted(rule, samples.heads, samples.labels)
        else:
            p = auto.fitted[rule.name].combine(samples.heads)
        predicted[rule.name, False] = p.argmax(axis=1)
        on_validation[rule.name, False] = auto.accuracy[rule.name] if auto else None
    for head in samples.heads:
        if head != FUSED:
            predicted[head, True] = samples.heads[head].argmax(axis=1)
            on_validation[head, True] = (
                accuracy(validation.labels, validation.heads[head].argmax(axis=1)) if validation else None
            )
    correct = {key: classes == samples.labels for key, classes in predicted.items()}
    rows = [
        _row(key, hits, correct[DEFAULT, False], on_validation[key], config) for key, hits in correct.items()
    ]
    adjusted = holm([row.test.p_value for row in rows[1:]])
    corrected = [replace(row, adjusted=p) for row, p in zip(rows[1:], adjusted, strict=True)]
    chosen = auto.chosen.name if auto else None
    return RuleTable(split, config.confidence, (rows[0], *corrected), chosen)


def _row(
    key: tuple[str, bool],
    correct: BoolArray,
    fused: BoolArray,
    validation: float | None,
    config: EvaluateConfig,
) -> RuleRow:
    difference = correct.astype(np.float64) - fused
    return RuleRow(
        *key,
        accuracy=float(correct.mean()),
        interval=share_interval(correct, config),
        difference=float(difference.mean()),
        difference_interval=bootstrap_mean(difference, config),
        test=mcnemar(fused, correct),
        correct=correct,
        validation=validation,
    )
