"""All heads weighted by what they are worth on validation: p proportional to prod_h p_h^beta_h."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mgap_cli.evaluation.decision_rules.base import DecisionRule, Heads, log_softmax, mean_probability
from mgap_cli.stats.arrays import FloatArray, IntArray

PRIOR_SD = 1.0  # of each weight around that of the geometric mean, 1 / H


@dataclass(frozen=True)
class Calibrated(DecisionRule):
    """p = softmax(sum_h beta_h log p_h) over all H heads, beta_h >= 0: a logarithmic opinion pool.

    The weights minimise on validation the sum over samples of -log p of the true class, plus
    sum_h (beta_h - 1 / H)^2 / 2 (the penalty is ours). A weight of 0 leaves a head out; weights that sum to
    less than 1 make overconfident heads less certain, as temperature scaling does (Guo et al., ICML 2017).
    The objective is convex, so that there is one optimum.
    """

    weights: Mapping[str, float] = field(default_factory=dict)

    name = "calibrated"
    learns = True

    @classmethod
    def fit(cls, heads: Heads, labels: IntArray) -> Calibrated:
        """Return the rule with the optimal weights for log-probabilities (N, C) by head and labels (N,)."""
        from scipy.optimize import minimize

        values, start = np.stack([*heads.values()]), np.full(len(heads), 1 / len(heads))
        rows = np.arange(len(labels))
        of_label = values[:, rows, labels]  # (H, N)

        def objective(beta: FloatArray) -> tuple[float, FloatArray]:
            log_p = log_softmax(np.tensordot(beta, values, axes=1))
            expected = np.einsum("nc,hnc->h", np.exp(log_p), values)
            away = (beta - start) / PRIOR_SD
            loss = -float(log_p[rows, labels].sum()) + float(away @ away) / 2
            return loss, expected - of_label.sum(axis=1) + away / PRIOR_SD

        found = minimize(
            objective,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=[(0, None)] * len(heads),
            options={"ftol": 1e-12, "gtol": 1e-8},
        )
        return cls(dict(zip(heads, found.x.tolist(), strict=True)))

    def combine(self, heads: Heads) -> FloatArray:
        """Return the probabilities (N, C) of the weighted heads."""
        terms = [beta * heads[head] for head, beta in self.weights.items() if head in heads and beta > 0]
        return np.exp(log_softmax(np.sum(terms, axis=0))) if terms else mean_probability(heads)

    def parameters(self) -> dict[str, object]:
        return {f"weight.{head}": beta for head, beta in self.weights.items()}
