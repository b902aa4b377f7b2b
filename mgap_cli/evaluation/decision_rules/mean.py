"""The mean of the unimodal heads' probabilities: p = (p_1 + ... + p_M) / M."""

from __future__ import annotations

from mgap_cli.evaluation.decision_rules.base import DecisionRule, Heads, mean_probability, unimodal
from mgap_cli.stats.arrays import FloatArray

PAPER = "Kittler et al., TPAMI 1998"


class Mean(DecisionRule):
    """p = mean_m p_m over the modalities (the sum rule of Kittler et al., TPAMI 20, 1998)."""

    name = "mean"

    def combine(self, heads: Heads) -> FloatArray:
        """Return the mean probabilities (N, C) of the unimodal heads."""
        return mean_probability(unimodal(heads))
