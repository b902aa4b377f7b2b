"""The Gaussian mixture over modality gaps, and each sample's posterior of being imbalanced.

The aim (a Gaussian mixture that splits balanced from imbalanced samples, and posteriors by Bayes'
rule) is that of arXiv 2510.21797; the details below are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mgap_cli.config import GapConfig
from mgap_cli.errors import UnfitError
from mgap_cli.gap.scores import FloatArray, IntArray, Scores

MIN_SAMPLES = 10  # below this a two-component fit is noise
MIN_WEIGHT = 0.01  # a component under this describes stray samples, not a population
BIC_COMPONENTS = (1, 2, 3, 4)
_GRID = 1001  # brackets for the turning points of the posterior


@dataclass(frozen=True)
class Mixture:
    """A fitted 1-D Gaussian mixture, plain arrays only.

    kind: "absolute" (over u = |gap|) or "signed" (over g). weights, means, sds: (K,) float64 in units
    of the gap, sorted by mean. balanced: the component whose mean is nearest to 0.
    """

    kind: str
    weights: FloatArray
    means: FloatArray
    sds: FloatArray
    balanced: int

    def value(self, gap: FloatArray) -> FloatArray:
        """Return the variable that the mixture is over, for signed gaps (N,)."""
        return np.abs(gap) if self.kind == "absolute" else np.asarray(gap)

    def density(self, x: FloatArray) -> FloatArray:
        """Return (K, N) weighted densities pi_k N(x; mu_k, sigma_k^2)."""
        return np.exp(self._log_density(x))

    def posterior(self, gap: FloatArray) -> FloatArray:
        """Return (N,) posteriors of imbalance r = 1 - P(balanced | gap), non-decreasing in imbalance.

        Bayes' rule, except where the wider Gaussian would win again in the tail on the wrong side.
        Going away from the balanced mean r never falls (its running maximum); from the balanced mean
        towards a gap of 0, `absolute` only, it never rises (its running minimum).
        """
        x = self.value(gap)
        if len(self.weights) == 1:
            return np.zeros(len(x))
        raw = self._log_odds(x)
        centre = self.means[self.balanced]
        anchors = np.append(self._turning_points, centre)
        heights = self._log_odds(anchors)[:, None]
        # (A, N): the anchors that lie between the balanced mean and each sample.
        passed = (anchors[:, None] - centre) * (anchors[:, None] - x) <= 0
        risen = np.maximum(raw, np.where(passed, heights, -np.inf).max(axis=0))
        fallen = np.minimum(raw, np.where(passed, heights, np.inf).min(axis=0))
        outward = (x >= centre) | (self.kind == "signed")
        log_odds = np.where(outward, risen, fallen)
        return np.asarray(0.5 * (1 + np.tanh(0.5 * log_odds)))  # a sigmoid without overflow

    def components(self, gap: FloatArray) -> IntArray:
        """Return (N,) components: the balanced one where r < 1/2, else the likeliest of the others."""
        x = self.value(gap)
        if len(self.weights) == 1:
            return np.zeros(len(x), dtype=np.int64)
        log_density = self._log_density(x)
        log_density[self.balanced] = -np.inf
        return np.where(self.posterior(gap) < 0.5, self.balanced, log_density.argmax(axis=0)).astype(np.int64)

    def role(self, k: int) -> str:
        """Return what component `k` stands for."""
        if k == self.balanced:
            return "balanced"
        if self.kind == "absolute":
            return "imbalanced"
        return "audio-dominated" if self.means[k] > self.means[self.balanced] else "visual-dominated"

    def crossing(self) -> float | None:
        """Return the smallest |gap| that is imbalanced (r >= 1/2), to 1e-4; None if no gap is."""
        u = np.linspace(0.0, 1.0, 10_001)
        r = self.posterior(u)
        if self.kind == "signed":
            r = np.maximum(r, self.posterior(-u))
        return float(u[np.argmax(r >= 0.5)]) if (r >= 0.5).any() else None

    def _log_density(self, x: FloatArray) -> FloatArray:
        z = (x[None, :] - self.means[:, None]) / self.sds[:, None]
        scale = np.log(self.weights) - np.log(self.sds) - 0.5 * np.log(2 * np.pi)
        return np.asarray(scale[:, None] - 0.5 * z**2)

    def _log_odds(self, x: FloatArray) -> FloatArray:
        """Return (N,) log of P(any other component | x) over P(balanced | x), by Bayes' rule."""
        log_density = self._log_density(x)
        others = np.delete(log_density, self.balanced, axis=0)
        return np.asarray(np.logaddexp.reduce(others, axis=0) - log_density[self.balanced])

    @cached_property
    def _turning_points(self) -> FloatArray:
        """Where the log-odds turn round: roots of their derivative, bracketed on a grid."""
        from scipy.optimize import brentq

        def slope(x: float) -> float:
            falls = (self.means - x) / self.sds**2
            log_density = self._log_density(np.array([x]))[:, 0]
            log_density[self.balanced] = -np.inf
            shares = np.exp(log_density - np.logaddexp.reduce(log_density))
            return float(shares @ falls - falls[self.balanced])

        x = np.linspace(0.0 if self.kind == "absolute" else -1.0, 1.0, _GRID)
        sign = np.sign([slope(v) for v in x])
        return np.array([brentq(slope, x[i], x[i + 1]) for i in np.flatnonzero(np.diff(sign) != 0)])


@dataclass(frozen=True)
class GapFit:
    """What the gaps of one set of samples say. posterior, component: (N,), in the order of `scores`.

    bic: components to the Bayesian information criterion (lower is better); log_likelihood: of the
    fitted mixture, summed over samples, in nats; crossing: the gap at which the posterior is one half.
    """

    scores: Scores
    mixture: Mixture
    posterior: FloatArray
    component: IntArray
    bic: dict[int, float]
    log_likelihood: float
    crossing: float | None
    warnings: list[str]

    @property
    def balanced_share(self) -> float:
        """Share of samples whose posterior of imbalance is under one half."""
        return float(np.mean(self.posterior < 0.5))


def fit_mixture(gap: FloatArray, config: GapConfig) -> tuple[Mixture, list[str]]:
    """Fit `config.components` Gaussians to signed gaps (N,); return the mixture and what to warn of.

    Too few samples, or no spread at all, give a single balanced component and a warning.
    Raises UnfitError for gaps that are not finite, and for no gaps.
    """
    bad = int(np.count_nonzero(~np.isfinite(gap)))
    if bad or not len(gap):
        what = f"{bad} of {len(gap)} gaps are NaN or infinite." if bad else "there are no gaps to fit."
        raise UnfitError(f"The mixture cannot be fitted: {what}", "Check the scores that they come from.")
    values = np.abs(gap) if config.kind == "absolute" else np.asarray(gap, dtype=np.float64)
    n, distinct = len(values), len(np.unique(values))
    if n < MIN_SAMPLES or distinct < config.components:
        why = f"only {n} samples" if n < MIN_SAMPLES else f"only {distinct} distinct gap(s)"
        sd = max(float(values.std()), config.sd_floor)
        single = Mixture(config.kind, np.ones(1), np.array([values.mean()]), np.array([sd]), 0)
        return single, [f"{why}: no mixture was fitted, and every sample counts as balanced."]
    fitted = _gaussian_mixture(values, config.components, config)
    order = np.argsort(fitted.means_[:, 0])
    means = fitted.means_[order, 0]
    mixture = Mixture(
        config.kind,
        fitted.weights_[order],
        means,
        np.sqrt(fitted.covariances_[order, 0, 0]),
        int(np.argmin(np.abs(means))),
    )
    small = [f"{w:.1%}" for w in mixture.weights if w < MIN_WEIGHT]
    warnings = (
        [f"a component holds only {small[0]} of the weight: read it as stray samples."] if small else []
    )
    return mixture, warnings


def analyse(scores: Scores, config: GapConfig) -> GapFit:
    """Fit the mixture to `scores` and add the diagnostics. Raises as `fit_mixture` does."""
    gap = scores.gap
    mixture, warnings = fit_mixture(gap, config)
    values = mixture.value(gap)
    bic = _bic(values, config)
    # |gap| of a single population around 0 is a folded Gaussian, which takes two components to fit:
    # whether there are two populations is asked of the signed gaps.
    signed_bic = bic if config.kind == "signed" else _bic(gap, config)
    if len(mixture.weights) > 1 and 1 in (_best(bic), _best(signed_bic)):
        warnings.append("BIC prefers one component: the gaps are unimodal, no evidence of two populations.")
    return GapFit(
        scores=scores,
        mixture=mixture,
        posterior=mixture.posterior(gap),
        component=mixture.components(gap),
        bic=bic,
        log_likelihood=float(np.log(mixture.density(values).sum(axis=0)).sum()),
        crossing=mixture.crossing(),
        warnings=warnings,
    )


def _bic(values: FloatArray, config: GapConfig) -> dict[int, float]:
    """Return the criterion for each K that the values have distinct points for; {} for too few samples."""
    if len(values) < MIN_SAMPLES:
        return {}
    counts = [k for k in BIC_COMPONENTS if k <= len(np.unique(values))]
    return {k: float(_gaussian_mixture(values, k, config).bic(values[:, None])) for k in counts}


def _best(bic: dict[int, float]) -> int | None:
    return min(bic, key=lambda k: bic[k], default=None)


def _gaussian_mixture(values: FloatArray, components: int, config: GapConfig) -> Any:
    from sklearn.mixture import GaussianMixture

    # reg_covar is added to every variance, which makes it a floor.
    model = GaussianMixture(
        components,
        n_init=config.n_init,
        random_state=config.seed,
        reg_covar=config.sd_floor**2,
        tol=1e-5,
        max_iter=500,
    )
    return model.fit(values[:, None])
