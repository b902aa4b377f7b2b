"""The fused head alone: p = p_fused."""

from __future__ import annotations

from mgap_cli.evaluation.decision_rules.base import DecisionRule, Heads, mean_probability
from mgap_cli.gap.scores import FUSED
from mgap_cli.stats.arrays import FloatArray


class Fused(DecisionRule):
    """p = p_fused; without a fused head, the mean of the others."""

    name = "fused"

    def combine(self, heads: Heads) -> FloatArray:
        """Return the probabilities (N, C) of the fused head."""
        return mean_probability({FUSED: heads[FUSED]} if FUSED in heads else heads)
