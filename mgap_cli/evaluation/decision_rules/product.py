"""The normalised product of the unimodal heads' probabilities: p proportional to p_1 ... p_M."""

from __future__ import annotations

import numpy as np

from mgap_cli.evaluation.decision_rules.base import DecisionRule, Heads, unimodal
from mgap_cli.stats.arrays import FloatArray
from mgap_cli.stats.opinion_pool import log_softmax

PAPER = "Kittler et al., TPAMI 1998"


class Product(DecisionRule):
    """p proportional to prod_m p_m (the product rule of Kittler et al., TPAMI 20, 1998, with equal priors).

    It is right where the modalities are independent given the class and all classes are equally frequent.
    """

    name = "product"

    def combine(self, heads: Heads) -> FloatArray:
        """Return the normalised product (N, C) of the unimodal heads' probabilities."""
        return np.exp(log_softmax(np.sum([*unimodal(heads).values()], axis=0)))
