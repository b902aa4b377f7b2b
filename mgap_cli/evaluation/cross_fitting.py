"""Cross-fitting: apply a decision rule to samples on which it was not fitted, fold by fold."""

from __future__ import annotations

import numpy as np

from mgap_cli.evaluation.decision_rules.base import DecisionRule, Heads
from mgap_cli.stats.arrays import FloatArray, IntArray
from mgap_cli.stats.folds import folds_of


def cross_fitted(rule: type[DecisionRule], heads: Heads, labels: IntArray) -> FloatArray:
    """Return probabilities (N, C); those of each fold come from the rule fitted on the other folds.

    heads: log-probabilities (N, C) by head. A rule that learns nothing is applied as it is. With only one
    sample, every rule is applied without a fit.
    """
    if not rule.learns or len(labels) < 2:
        return rule().combine(heads)
    combined = np.empty_like(next(iter(heads.values())))
    fold = folds_of(labels)
    for k in np.unique(fold):
        held_out, others = fold == k, fold != k
        fitted = rule.fit({head: log_p[others] for head, log_p in heads.items()}, labels[others])
        combined[held_out] = fitted.combine({head: log_p[held_out] for head, log_p in heads.items()})
    return combined
