"""A product of the unimodal heads, weighted for each sample by how certain each head is."""

from __future__ import annotations

import numpy as np

from mgap_cli.evaluation.decision_rules.base import DecisionRule, Heads, unimodal
from mgap_cli.stats.arrays import FloatArray
from mgap_cli.stats.opinion_pool import log_softmax

PAPER = "Zhang et al., CVPR 2024"


class Entropy(DecisionRule):
    """p proportional to exp(sum_m w_m log p_m), with w_m proportional to exp(-H_m) per sample.

    H_m is the entropy of p_m in nats. This is the test-time fusion of MLA (Zhang et al., CVPR 2024). MLA
    weights logits, which differ from log p_m by a constant per sample; that does not change p.
    """

    name = "entropy"

    def combine(self, heads: Heads) -> FloatArray:
        """Return the probabilities (N, C) of the weighted unimodal heads."""
        log_p = np.stack([*unimodal(heads).values()])
        certainty = np.sum(np.exp(log_p) * log_p, axis=2)  # -H_m, (M, N)
        weight = np.exp(log_softmax(certainty.T)).T
        return np.exp(log_softmax(np.sum(weight[:, :, None] * log_p, axis=0)))
