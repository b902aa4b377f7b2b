"""A product of all heads with weights that validation fits: p proportional to prod_h p_h^beta_h."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mgap_cli.evaluation.decision_rules.base import DecisionRule, Heads, mean_probability
from mgap_cli.stats.arrays import FloatArray, IntArray
from mgap_cli.stats.opinion_pool import log_softmax, pool_weights


@dataclass(frozen=True)
class Calibrated(DecisionRule):
    """p = softmax(sum_h beta_h log p_h) over all H heads, beta_h >= 0: a logarithmic opinion pool.

    The weights minimise on validation the sum over samples of -log p of the true class, plus
    sum_h (beta_h - 1 / H)^2 / 2 (the penalty is ours). A weight of 0 leaves a head out; weights that sum to
    less than 1 make overconfident heads less certain, as temperature scaling does (Guo et al., ICML 2017).
    """

    weights: Mapping[str, float] = field(default_factory=dict)

    name = "calibrated"
    learns = True

    @classmethod
    def fit(cls, heads: Heads, labels: IntArray) -> Calibrated:
        """Return the rule with the optimal weights for log-probabilities (N, C) by head and labels (N,)."""
        return cls(pool_weights(heads, labels))

    def combine(self, heads: Heads) -> FloatArray:
        """Return the probabilities (N, C) of the weighted heads."""
        terms = [beta * heads[head] for head, beta in self.weights.items() if head in heads and beta > 0]
        return np.exp(log_softmax(np.sum(terms, axis=0))) if terms else mean_probability(heads)

    def parameters(self) -> dict[str, object]:
        return {f"weight.{head}": beta for head, beta in self.weights.items()}
