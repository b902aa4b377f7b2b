"""Mixtures fitted to binned gaps, many at a time: what makes bootstraps and a million samples affordable.

EM over (B, M) counts in M bins costs the same for a thousand samples as for a million, and B resamples go
through it together. Bins are far narrower than the narrowest component may be (`sd_floor`), so that what
binning adds to a variance (Sheppard's width^2 / 12) is under 1 % of the smallest one.

`folded` components are |N(mu, sd^2)|, the folded normal (Leone, Nelson and Nottingham, Technometrics 3,
1961): what |gap| of a Gaussian population follows. EM treats the lost sign as one more hidden variable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mgap_cli.gap.scores import FloatArray, IntArray

WIDTH = 1 / 4  # of a bin, in units of the floor: width^2 / 12 is 0.5 % of the smallest variance
SHORT = 25  # iterations after which only the best start goes on
MAX_ITERATIONS = 400
TOLERANCE = 1e-7  # of the mean log-likelihood, nats


@dataclass(frozen=True)
class Components:
    """B Gaussian mixtures of K components. weights, means, sds: (B, K)."""

    weights: FloatArray
    means: FloatArray
    sds: FloatArray

    def log_density(self, x: FloatArray) -> FloatArray:
        """Return (B, K, M) log of weighted densities at x (M,), not folded."""
        # A quadratic in x, so that all of it is one matrix product.
        precision = 1 / self.sds**2
        constant = np.log(self.weights) - np.log(self.sds) - 0.5 * np.log(2 * np.pi)
        terms = np.stack(
            [constant - 0.5 * precision * self.means**2, precision * self.means, -0.5 * precision], axis=-1
        )
        return np.asarray(terms @ _powers(x))

    def cdf(self, x: FloatArray) -> FloatArray:
        """Return (B, M) distribution functions at x (M,)."""
        from scipy.special import ndtr

        z = (x - self.means[..., None]) / self.sds[..., None]
        return np.asarray((self.weights[..., None] * ndtr(z)).sum(axis=1))

    def at(self, index: IntArray) -> Components:
        """Return the mixtures at an index into B."""
        return Components(self.weights[index], self.means[index], self.sds[index])


def edges(low: float, high: float, sd_floor: float) -> FloatArray:
    """Return the (M + 1,) edges of equal bins that cover [low, high]."""
    return np.linspace(low, high, 1 + int(np.ceil((high - low) / (WIDTH * sd_floor))))


def centres(borders: FloatArray) -> FloatArray:
    """Return (M,) bin centres."""
    return np.asarray((borders[1:] + borders[:-1]) / 2)


def fit(
    x: FloatArray,
    counts: FloatArray,
    components: int,
    sd_floor: float,
    cuts: Sequence[Sequence[float]],
    *,
    folded: bool = False,
) -> tuple[Components, FloatArray]:
    """Fit K Gaussians to each row of counts (B, M) at x (M,); return them and their log-likelihoods (B,).

    Each of `cuts` is a start: the K - 1 quantiles at which the sorted samples are cut into components. All
    run `SHORT` iterations, and the best of each row goes on.
    """
    below = (np.cumsum(counts, axis=1) - counts / 2) / counts.sum(axis=1, keepdims=True)
    started = []
    for cut in cuts:
        owner = np.searchsorted(np.asarray(cut), below)  # (B, M)
        shares = (owner[:, None, :] == np.arange(components)[:, None]).astype(np.float64)
        start = _maximised(x, counts, shares, sd_floor)
        started.append(refine(x, counts, start, sd_floor, folded=folded, iterations=SHORT))
    best = np.argmax([likelihood for _, likelihood in started], axis=0)  # (B,)
    rows = np.arange(len(counts))
    chosen = Components(
        *(
            np.stack([getattr(found, name) for found, _ in started])[best, rows]
            for name in ("weights", "means", "sds")
        )
    )
    return refine(x, counts, chosen, sd_floor, folded=folded)


def refine(
    x: FloatArray,
    counts: FloatArray,
    start: Components,
    sd_floor: float,
    *,
    folded: bool = False,
    iterations: int = MAX_ITERATIONS,
) -> tuple[Components, FloatArray]:
    """Run EM from `start` on each row of counts (B, M) until its log-likelihood stands still."""
    now = Components(*(np.array(a) for a in (start.weights, start.means, start.sds)))
    n = counts.sum(axis=1)
    likelihood = np.full(len(counts), -np.inf)
    active = np.arange(len(counts))
    for _ in range(iterations):
        part, weight = now.at(active), counts[active]
        log_density = part.log_density(x)
        if folded:
            mirrored = Components(part.weights, -part.means, part.sds).log_density(x)
            log_density = np.concatenate([log_density, mirrored], axis=1)
        top = log_density.max(axis=1, keepdims=True)
        shares = np.exp(log_density - top)
        total = shares.sum(axis=1, keepdims=True)
        shares /= total
        reached = (weight * (np.log(total) + top)[:, 0]).sum(axis=1)
        moved = _maximised(x, weight, shares, sd_floor, folded)
        going = reached - likelihood[active] > TOLERANCE * n[active]
        likelihood[active] = reached
        active = active[going]
        now.weights[active], now.means[active], now.sds[active] = (
            a[going] for a in (moved.weights, moved.means, moved.sds)
        )
        if not len(active):
            break
    return now, likelihood


def _maximised(
    x: FloatArray, counts: FloatArray, shares: FloatArray, sd_floor: float, folded: bool = False
) -> Components:
    """Return the parameters that (B, K, M) shares of each bin in the components make likeliest.

    Where `folded`, shares (B, 2K, M) are those of K components and then of their mirror images.
    """
    moments = (counts[:, None, :] * shares) @ _powers(x).T  # (B, K, 3)
    if folded:
        moments, mirrored = np.split(moments, 2, axis=1)
        moments = moments + mirrored * [1, -1, 1]
    mass = moments[..., 0] + 10 * np.finfo(np.float64).eps  # an empty component keeps finite parameters
    means = moments[..., 1] / mass
    variance = np.maximum(moments[..., 2] / mass - means**2, 0) + sd_floor**2
    return Components(mass / mass.sum(axis=1, keepdims=True), means, np.sqrt(variance))


def _powers(x: FloatArray) -> FloatArray:
    return np.stack([np.ones_like(x), x, x**2])
