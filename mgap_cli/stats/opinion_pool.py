"""Weights of several predictions of the same samples: their weighted product predicts best."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mgap_cli.stats.arrays import FloatArray, IntArray

PRIOR_SD = 1.0  # of each weight, around 1 / H, the weight in the geometric mean
_SMALLEST = float(np.finfo(np.float32).tiny)  # a probability of 0, whose log is infinite, is raised to this


def pool_weights(heads: Mapping[str, FloatArray], labels: IntArray) -> dict[str, float]:
    """Return beta_h >= 0 by head for p = softmax(sum_h beta_h log p_h), a logarithmic opinion pool.

    heads: log-probabilities (N, C) of each of the H heads. labels: (N,). The weights minimise the sum over
    samples of -log p of the true class, plus sum_h (beta_h - 1 / H)^2 / 2 (the penalty is ours). The
    objective is strictly convex, so there is exactly one optimum.
    """
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

    solution = minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * len(heads),
        options={"ftol": 1e-12, "gtol": 1e-8},
    )
    return dict(zip(heads, solution.x.tolist(), strict=True))


def log_softmax(z: FloatArray) -> FloatArray:
    """Return log softmax over the classes of (N, C) values."""
    shifted = z - z.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def log_probabilities(probabilities: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Return the logarithms of probabilities (N, C) by head; a probability of 0 counts as 1.2e-38."""
    return {head: np.log(np.maximum(p, _SMALLEST)) for head, p in probabilities.items()}
