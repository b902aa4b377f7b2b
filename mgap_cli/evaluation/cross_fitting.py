"""Decision rules on samples that they were not fitted on: the folds of a split take turns."""

from __future__ import annotations

import numpy as np

from mgap_cli.evaluation.decision_rules.base import DecisionRule, Heads
from mgap_cli.stats.arrays import FloatArray, IntArray

FOLDS = 5


def folds_of(labels: IntArray, folds: int = FOLDS) -> IntArray:
    """Return the fold (N,) of each sample, drawn at random with a fixed seed; each class is spread evenly.

    The folds' sizes differ by at most 1, as do each class's counts in them, and none is empty: with fewer
    samples than folds, there is one fold per sample.
    """
    shuffled = np.random.default_rng(0).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    found = np.empty(len(labels), dtype=np.int64)
    found[by_class] = np.arange(len(labels)) % folds
    return found


def cross_fitted(rule: type[DecisionRule], heads: Heads, labels: IntArray) -> FloatArray:
    """Return probabilities (N, C): each fold's from the rule that was fitted on the other folds.

    heads: log-probabilities (N, C) by head. A rule that learns nothing is applied as it is, and so is a rule
    that there is only one sample for, without having been fitted.
    """
    if not rule.learns or len(labels) < 2:
        return rule().combine(heads)
    found = np.empty_like(next(iter(heads.values())))
    fold = folds_of(labels)
    for k in np.unique(fold):
        own, others = fold == k, fold != k
        fitted = rule.fit({head: log_p[others] for head, log_p in heads.items()}, labels[others])
        found[own] = fitted.combine({head: log_p[own] for head, log_p in heads.items()})
    return found
