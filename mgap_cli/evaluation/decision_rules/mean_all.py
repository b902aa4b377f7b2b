"""The mean of all heads' probabilities, the fused head among them."""

from __future__ import annotations

from mgap_cli.evaluation.decision_rules.base import DecisionRule, Heads, mean_probability
from mgap_cli.stats.arrays import FloatArray


class MeanAll(DecisionRule):
    """p = (p_fused + p_1 + ... + p_M) / (M + 1)."""

    name = "mean-all"

    def combine(self, heads: Heads) -> FloatArray:
        """Return the mean probabilities (N, C) of all heads."""
        return mean_probability(heads)
