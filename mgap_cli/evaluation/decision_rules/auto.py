"""The rule that is most accurate on validation samples on which it was not fitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mgap_cli.evaluation.cross_fitting import cross_fitted
from mgap_cli.evaluation.decision_rules import listed_rules
from mgap_cli.evaluation.decision_rules.base import DecisionRule, Heads
from mgap_cli.evaluation.decision_rules.fused import Fused
from mgap_cli.evaluation.metrics import accuracy
from mgap_cli.stats.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class Auto(DecisionRule):
    """The rule with the highest cross-fitted accuracy on validation; among equals, fused or the simplest.

    fitted: every rule, by name, fitted on the whole validation split. accuracy: its cross-fitted accuracy.
    """

    fitted: Mapping[str, DecisionRule] = field(default_factory=lambda: {Fused.name: Fused()})
    accuracy: Mapping[str, float] = field(default_factory=lambda: {Fused.name: 0.0})

    name = "auto"
    learns = True

    @classmethod
    def fit(cls, heads: Heads, labels: IntArray) -> Auto:
        """Return this rule with the accuracy of every built-in rule; labels: (N,)."""
        rules = listed_rules()
        accuracies = {
            rule.name: accuracy(labels, cross_fitted(rule, heads, labels).argmax(axis=1)) for rule in rules
        }
        return cls({rule.name: rule.fit(heads, labels) for rule in rules}, accuracies)

    @property
    def chosen(self) -> DecisionRule:
        """Return the rule that validation chooses."""
        return self.fitted[max(self.accuracy, key=lambda name: self.accuracy[name])]

    def combine(self, heads: Heads) -> FloatArray:
        """Return the probabilities (N, C) of the chosen rule."""
        return self.chosen.combine(heads)

    def parameters(self) -> dict[str, object]:
        return self.chosen.parameters()
