"""The likeliest log-concave population for binned samples, many samples at a time.

A log-concave density has a concave logarithm. Gaussians, folded Gaussians around 0, exponentials, Beta and
Gamma densities with shapes of at least 1, and sums and differences of all these are log-concave. The class
therefore covers one population of any skewness, but no population with a heavy tail. A mixture of two
separate populations is outside it too, even where it has only one peak (G. Walther, "Detecting the Presence
of Mixing with Multiscale Maximum Likelihood", Journal of the American Statistical Association 97, 2002).
"""

from __future__ import annotations

import numpy as np

from mgap_cli.stats.arrays import FloatArray

ITERATIONS = 120
ACCURACY = 1e-2  # how far, in nats, the log-likelihood of a row may be below the optimum
_STEP = 2.0  # how far, in nats, the log-density of a bin may move in one iteration
_BOUNDARY = 0.95  # share of the way to the boundary of the constraints that one iteration may go
_CENTRING = 0.2  # factor by which an iteration shrinks the mean complementarity


def fit(counts: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the maximum-likelihood log-concave probabilities (B, M) of counts (B, M) in equal bins.

    The second result is the log-likelihoods (B,), in nats. Each row needs at least one sample. The support of
    a row reaches from its first to its last sample (Dümbgen and Rufibach, Bernoulli 15, 2009). Let phi be the
    log-probabilities and w = counts / n. The function maximises sum w phi - sum exp(phi), subject to second
    differences of phi that are at most 0, by a primal-dual interior-point method (ours). All rows are solved
    as one banded system.
    """
    from scipy.linalg import solveh_banded

    rows, bins = counts.shape
    n = counts.sum(axis=1)
    w = counts / n[:, None]
    positions = np.arange(bins)
    first, last = (counts > 0).argmax(axis=1), bins - 1 - (counts[:, ::-1] > 0).argmax(axis=1)
    inside = (positions >= first[:, None]) & (positions <= last[:, None])
    # bent[:, j]: whether bin j and both its neighbours are in the support, so that phi must bend down there.
    bent = np.zeros_like(inside)
    bent[:, 1:-1] = inside[:, :-2] & inside[:, 2:]
    width = (last - first + 1)[:, None]
    x = (positions - (first + last)[:, None] / 2) / width
    phi = np.where(inside, -np.log(width) - x**2, 0.0)
    dual = np.where(bent, 1.0 / bins, 0.0)
    constraints = np.maximum(bent.sum(axis=1), 1)
    for _ in range(ITERATIONS):
        slack = np.where(bent, _bend(phi), 1.0)
        complementarity = (slack * dual).sum(axis=1)
        mass = np.where(inside, np.exp(phi), 0.0)
        residual = np.where(inside, w - mass + _spread_back(dual), 0.0)
        if (complementarity < ACCURACY / n).all() and (np.abs(residual).sum(axis=1) < ACCURACY / n).all():
            break
        target = (np.maximum(_CENTRING * complementarity, 0.3 * ACCURACY / n) / constraints)[:, None]
        pull = np.where(bent, target / slack, 0.0)
        stiffness = np.where(bent, dual / slack, 0.0)
        bands = _bands(np.where(inside, mass, 1.0), stiffness)
        gradient = np.where(inside, w - mass + _spread_back(pull), 0.0)
        move = solveh_banded(bands, gradient.ravel(), lower=True, check_finite=False).reshape(rows, bins)
        moved = np.where(bent, _bend(move), 0.0)
        dual_move = np.where(bent, pull - dual - stiffness * moved, 0.0)
        step = np.minimum(1.0, _STEP / np.maximum(np.abs(move).max(axis=1), 1e-300))
        step = np.minimum(step, _reach(slack, moved))
        phi += step[:, None] * move
        dual += np.minimum(step, _reach(np.where(bent, dual, 1.0), dual_move))[:, None] * dual_move
    probability = np.where(inside, np.exp(phi), 0.0)
    probability /= probability.sum(axis=1, keepdims=True)
    logs = np.log(np.where(counts > 0, probability, 1.0))
    return probability, (counts * logs).sum(axis=1)


def _bend(phi: FloatArray) -> FloatArray:
    """Return minus the second differences (B, M), 0 at both ends."""
    bend = np.zeros_like(phi)
    bend[:, 1:-1] = 2 * phi[:, 1:-1] - phi[:, :-2] - phi[:, 2:]
    return bend


def _spread_back(dual: FloatArray) -> FloatArray:
    """Return the transpose of `_bend` applied to (B, M)."""
    result = 2 * dual
    result[:, :-1] -= dual[:, 1:]
    result[:, 1:] -= dual[:, :-1]
    return result


def _bands(diagonal: FloatArray, stiffness: FloatArray) -> FloatArray:
    """Return the lower bands (3, B * M) of diag(diagonal) + A' diag(stiffness) A, A being `_bend`."""
    rows, bins = diagonal.shape
    bands = np.zeros((3, rows, bins))
    bands[0] = diagonal + 4 * stiffness
    bands[0, :, :-1] += stiffness[:, 1:]
    bands[0, :, 1:] += stiffness[:, :-1]
    bands[1, :, :-1] = -2 * (stiffness[:, :-1] + stiffness[:, 1:])
    bands[2, :, :-2] = stiffness[:, 1:-1]
    return bands.reshape(3, -1)


def _reach(value: FloatArray, move: FloatArray) -> FloatArray:
    """Return (B,) the largest step, at most 1, that keeps value + step * move positive."""
    ratio = np.where(move < 0, value / np.minimum(move, -1e-300) * -_BOUNDARY, np.inf)
    return np.asarray(np.minimum(1.0, ratio.min(axis=1)))
