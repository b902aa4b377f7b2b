"""The single head with the highest accuracy on validation."""

from __future__ import annotations

from dataclasses import dataclass

from mgap_cli.evaluation.decision_rules.base import DecisionRule, Heads, mean_probability
from mgap_cli.evaluation.metrics import accuracy
from mgap_cli.stats.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class Best(DecisionRule):
    """p = p_h of the head h with the highest accuracy on validation; among equals, the first head.

    ranking: the heads from the most accurate to the least. If the first is missing, the next one decides.
    """

    ranking: tuple[str, ...] = ()

    name = "best"
    learns = True

    @classmethod
    def fit(cls, heads: Heads, labels: IntArray) -> Best:
        """Return the rule with the heads ranked by accuracy on validation."""
        accuracies = {head: accuracy(labels, log_p.argmax(axis=1)) for head, log_p in heads.items()}
        return cls(tuple(sorted(accuracies, key=lambda head: -accuracies[head])))

    def combine(self, heads: Heads) -> FloatArray:
        """Return the probabilities (N, C) of the best head that is present."""
        present = [head for head in self.ranking if head in heads]
        return mean_probability({present[0]: heads[present[0]]} if present else heads)

    def parameters(self) -> dict[str, object]:
        return {"ranking": list(self.ranking)}
