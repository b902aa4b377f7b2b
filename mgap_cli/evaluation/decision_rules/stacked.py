"""Logistic regression on the log-probabilities of all heads, fitted on validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mgap_cli.evaluation.decision_rules.base import DecisionRule, Heads, mean_probability
from mgap_cli.stats.arrays import FloatArray, IntArray
from mgap_cli.stats.opinion_pool import log_softmax

PAPER = "Wolpert, Neural Networks 1992"
STEPS = 200  # largest number of iterations of the optimiser


@dataclass(frozen=True)
class Stacked(DecisionRule):
    """p = softmax(b + sum_h W_h log p_h), W_h of (C, C): stacked generalisation (Wolpert, 1992).

    W and b minimise on validation the sum over samples of -log p of the true class, plus the penalty (ours)
    (H C s^2 sum_h |W_h - I / H|^2 + |b|^2) / 2. Here s^2 is the mean square of the log-probabilities, centred
    per sample. With few samples the rule is therefore close to the geometric mean of the heads. Under this
    prior, the weights move a logit by about 1, whatever the number of heads and classes. The objective is
    convex.

    weights: W_h (C, C) by head, with one row per predicted class. bias: (C,).
    """

    weights: Mapping[str, FloatArray] = field(default_factory=dict)
    bias: FloatArray = field(default_factory=lambda: np.zeros(1))

    name = "stacked"
    learns = True

    @classmethod
    def fit(cls, heads: Heads, labels: IntArray) -> Stacked:
        """Return the rule with the optimal weights for log-probabilities (N, C) by head and labels (N,)."""
        from scipy.optimize import minimize

        classes = next(iter(heads.values())).shape[1]
        inputs = np.concatenate([_centred(log_p) for log_p in heads.values()], axis=1)  # (N, H C)
        start = np.tile(np.eye(classes), len(heads)) / len(heads)  # (C, H C)
        precision = inputs.shape[1] * max(float(np.mean(inputs**2)), 1e-12)
        truth = np.eye(classes)[labels]

        def objective(flat: FloatArray) -> tuple[float, FloatArray]:
            both = flat.reshape(classes, -1)
            weights, bias = both[:, 1:], both[:, 0]
            log_p = log_softmax(inputs @ weights.T + bias)
            excess, away = np.exp(log_p) - truth, weights - start
            loss = -float((truth * log_p).sum()) + float(precision * (away**2).sum() + bias @ bias) / 2
            slope = excess.T @ inputs + precision * away
            return loss, np.column_stack([excess.sum(axis=0) + bias, slope]).ravel()

        first = np.column_stack([np.zeros(classes), start]).ravel()
        options = {"maxiter": STEPS, "ftol": 1e-10}
        solution = minimize(objective, first, jac=True, method="L-BFGS-B", options=options).x
        both = solution.reshape(classes, -1)
        weights = np.split(both[:, 1:], len(heads), axis=1)
        return cls(dict(zip(heads, weights, strict=True)), both[:, 0])

    def combine(self, heads: Heads) -> FloatArray:
        """Return the probabilities (N, C) of the regression."""
        terms = [_centred(heads[head]) @ w.T for head, w in self.weights.items() if head in heads]
        if not terms:
            return mean_probability(heads)
        return np.exp(log_softmax(self.bias + np.sum(terms, axis=0)))


def _centred(log_p: FloatArray) -> FloatArray:
    """Return (N, C) log-probabilities minus each sample's mean over the classes."""
    return np.asarray(log_p - log_p.mean(axis=1, keepdims=True))
