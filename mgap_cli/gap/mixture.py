"""The Gaussian mixture over modality gaps, and each sample's posterior of being imbalanced.

The aim (a Gaussian mixture that splits balanced from imbalanced samples, and posteriors by Bayes'
rule) is that of arXiv 2510.21797; the details below are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mgap_cli.config import GapConfig
from mgap_cli.errors import UnfitError, UsageError
from mgap_cli.gap.scores import Scores
from mgap_cli.stats import em
from mgap_cli.stats.arrays import FloatArray, IntArray

if TYPE_CHECKING:
    from mgap_cli.gap.bimodality import Bimodality

IMBALANCED = 0.5  # posterior of imbalance from which a sample is called imbalanced
MIN_SAMPLES = 10  # with fewer samples than this, a fit of two components is noise
MIN_WEIGHT = 0.01  # a component of smaller weight describes stray samples, not a population
MIN_MEMBERS = 3  # the same limit in samples
NEAR_TIE = 0.5  # how much farther from 0 a narrower balanced component may be, in standard deviations
DOMINATED = "-dominated"  # ending of the name of a component in which one modality leads
BIC_COMPONENTS = (1, 2, 3, 4)
_GRID = 1001  # brackets for the turning points of the posterior
_HALVINGS = 45  # halvings of a bracket: to the last bit


@dataclass(frozen=True)
class Mixture:
    """A fitted 1-D Gaussian mixture, plain arrays only.

    gap_kind: "absolute" (over u = |gap|) or "signed" (over g). weights, means, sds: (K,) float64 in units
    of the gap, sorted by mean. balanced: the index that `balanced_component` returns.
    """

    gap_kind: str
    weights: FloatArray
    means: FloatArray
    sds: FloatArray
    balanced: int

    def value(self, gap: FloatArray) -> FloatArray:
        """Return the variable that the mixture is over, for signed gaps (N,)."""
        return np.abs(gap) if self.gap_kind == "absolute" else np.asarray(gap)

    def density(self, x: FloatArray) -> FloatArray:
        """Return (K, N) weighted densities pi_k N(x; mu_k, sigma_k^2)."""
        return np.exp(self._log_density(x))

    def posterior(self, gap: FloatArray) -> FloatArray:
        """Return (N,) posteriors of imbalance r = 1 - P(balanced | gap), non-decreasing in imbalance.

        This is Bayes' rule, corrected in the tail on the wrong side, where the wider Gaussian would win
        again. Away from the balanced mean, r never falls: its running maximum is taken. From the balanced
        mean towards a gap of 0 (only for `absolute`), r never rises: its running minimum is taken.
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
        outward = (x >= centre) | (self.gap_kind == "signed")
        log_odds = np.where(outward, risen, fallen)
        return np.asarray(0.5 * (1 + np.tanh(0.5 * log_odds)))  # a sigmoid without overflow

    def components(self, gap: FloatArray, posterior: FloatArray | None = None) -> IntArray:
        """Return (N,) components: the balanced one where r < 1/2, else the likeliest of the others.

        posterior: (N,) the posteriors of these gaps, if they are known already.
        """
        x = self.value(gap)
        if len(self.weights) == 1:
            return np.zeros(len(x), dtype=np.int64)
        log_density = self._log_density(x)
        log_density[self.balanced] = -np.inf
        r = self.posterior(gap) if posterior is None else posterior
        return np.where(r < IMBALANCED, self.balanced, log_density.argmax(axis=0)).astype(np.int64)

    def log_likelihood(self, x: FloatArray) -> float:
        """Return the log-likelihood of (N,) values of the variable, summed, in nats."""
        return float(np.logaddexp.reduce(self._log_density(x), axis=0).sum())

    def entropy(self, x: FloatArray) -> float:
        """Return - sum_i sum_k t_ik log t_ik over (N,) values, in nats: how much the components overlap."""
        log_shares = self._log_density(x)
        log_shares -= np.logaddexp.reduce(log_shares, axis=0)
        return float(-(np.exp(log_shares) * log_shares).sum())

    def role(self, k: int, modalities: Sequence[str]) -> str:
        """Return the name of component `k`; in a signed mixture, it says which modality dominates."""
        if k == self.balanced:
            return "balanced"
        if self.gap_kind == "absolute":
            return "imbalanced"
        first, second = modalities
        return f"{first if self.means[k] > self.means[self.balanced] else second}{DOMINATED}"

    def crossing(self) -> float | None:
        """Return the smallest |gap| that is imbalanced (r >= 1/2), to 1e-4; None if no gap is."""
        u = np.linspace(0.0, 1.0, 10_001)
        r = self.posterior(u)
        if self.gap_kind == "signed":
            r = np.maximum(r, self.posterior(-u))
        return float(u[np.argmax(r >= IMBALANCED)]) if (r >= IMBALANCED).any() else None

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
        """Return the turning points of the log-odds: roots of their derivative, bracketed on a grid."""

        def slope(x: FloatArray) -> FloatArray:
            falls = (self.means[:, None] - x) / self.sds[:, None] ** 2
            log_density = self._log_density(x)
            log_density[self.balanced] = -np.inf
            shares = np.exp(log_density - np.logaddexp.reduce(log_density, axis=0))
            return np.asarray((shares * falls).sum(axis=0) - falls[self.balanced])

        x = np.linspace(0.0 if self.gap_kind == "absolute" else -1.0, 1.0, _GRID)
        sign = np.sign(slope(x))
        turns = np.flatnonzero(np.diff(sign) != 0)
        low, high, side = x[turns], x[turns + 1], sign[turns]
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            before = np.sign(slope(middle)) == side
            low, high = np.where(before, middle, low), np.where(before, high, middle)
        return np.asarray((low + high) / 2)


@dataclass(frozen=True)
class GapFit:
    """The analysis of the gaps of one set of samples.

    posterior, component: (N,), in the order of `scores`. bic, icl: the Bayesian information criterion and the
    integrated completed likelihood by number of components (lower is better). log_likelihood: of the fitted
    mixture, summed over samples, in nats. crossing: the gap at which the posterior is one half. bimodality:
    the result of `bimodality.examine`, if it was called.
    """

    scores: Scores
    mixture: Mixture
    posterior: FloatArray
    component: IntArray
    bic: dict[int, float]
    icl: dict[int, float]
    log_likelihood: float
    crossing: float | None
    warnings: list[str]
    bimodality: Bimodality | None = None

    @property
    def imbalanced(self) -> npt.NDArray[np.bool_]:
        """Return (N,) whether each sample's posterior of imbalance is at least one half."""
        return self.posterior >= IMBALANCED

    def role(self, k: int) -> str:
        """Return the name of component `k`, with the names of these modalities."""
        return self.mixture.role(k, self.scores.modalities)

    @property
    def gap_label(self) -> str:
        """Return the mixture's variable in words: the gap or, for two modalities, its absolute value."""
        formula = self.scores.gap_formula
        folded = self.mixture.gap_kind == "absolute" and len(self.scores.modalities) == 2
        return f"|{formula}|" if folded else formula

    @property
    def balanced_share(self) -> float:
        """Return the share of samples whose posterior of imbalance is under one half."""
        return float(np.mean(~self.imbalanced))


def balanced_component(means: FloatArray, sds: FloatArray) -> IntArray:
    """Return the index of the balanced component of each mixture, (...), for (..., K) means and sds.

    It is the component whose mean is nearest to 0. In a near tie it is the narrowest: a narrower component
    takes the place of the nearest one if its mean is farther from 0 by at most `NEAR_TIE` standard deviations
    of the nearest one. Without this rule (ours), a wide component whose mean is a few thousandths nearer to 0
    would count as balanced, and the narrow component with most samples as imbalanced.
    """
    distance = np.abs(means)
    nearest = distance.argmin(axis=-1)[..., None]
    reach = np.take_along_axis(distance, nearest, -1) + NEAR_TIE * np.take_along_axis(sds, nearest, -1)
    return np.asarray(np.where(distance <= reach, sds, np.inf).argmin(axis=-1))


def fit_mixture(gap: FloatArray, config: GapConfig) -> tuple[Mixture, list[str]]:
    """Fit `config.components` Gaussians to signed gaps (N,); return the mixture and a warning or "".

    It is the mixture of maximum likelihood with no standard deviation under `config.sd_floor`, as
    `em.fit_sample` finds it. Too few samples, or no spread at all, give a single balanced component and a
    warning. Raises UnfitError for gaps that are not finite, and for no gaps.
    """
    bad = int(np.count_nonzero(~np.isfinite(gap)))
    if bad or not len(gap):
        what = f"{bad} of {len(gap)} gaps are NaN or infinite." if bad else "there are no gaps to fit."
        raise UnfitError(f"The mixture cannot be fitted: {what}", "Check the scores that give these gaps.")
    values = np.abs(gap) if config.kind == "absolute" else np.asarray(gap, dtype=np.float64)
    n, sample = len(values), em.points(values, config.sd_floor)
    if n < MIN_SAMPLES or len(sample) < config.components:
        why = f"only {n} samples" if n < MIN_SAMPLES else f"only {len(sample)} distinct gap(s)"
        sd = max(float(values.std()), config.sd_floor)
        single = Mixture(config.kind, np.ones(1), np.array([values.mean()]), np.array([sd]), 0)
        return single, [f"{why}: no mixture was fitted, and every sample counts as balanced."]
    mixture = _fitted(sample, config.components, config)
    return mixture, [*_stray(mixture, n), *_nothing_balanced(mixture, sample)]


def _stray(mixture: Mixture, n: int) -> list[str]:
    """Return a warning if a component is too small to be a population."""
    smallest = float(mixture.weights.min())
    if smallest >= MIN_WEIGHT and smallest * n >= MIN_MEMBERS:
        return []
    return [
        f"a component has only {smallest:.1%} of the weight ({smallest * n:.1f} of {n} samples): "
        "treat it as stray samples."
    ]


def _nothing_balanced(mixture: Mixture, sample: em.Points) -> list[str]:
    """Return a warning if no sample is balanced, or none would be at the balanced component's own mean."""
    if len(mixture.weights) == 1:
        return []
    mean = mixture.means[mixture.balanced]
    if (mixture.posterior(sample.x) >= IMBALANCED).all():
        what = "no sample is balanced"
    elif mixture.posterior(np.array([mean]))[0] >= IMBALANCED:
        what = "a gap at the balanced component's own mean counts as imbalanced"
    else:
        return []
    return [
        f"{what}: another component is likelier at the mean of the balanced one ({mean:+.3f}). "
        "The two overlap, so do not rely on the split into balanced and imbalanced."
    ]


def require_gap_kind(config: GapConfig, modalities: Sequence[str]) -> None:
    """Raise UsageError for signed gaps of more than two modalities, which have no single sign."""
    if config.kind == "signed" and len(modalities) > 2:
        raise UsageError(
            f"gap.kind=signed needs two modalities; these scores have {', '.join(modalities)}.",
            "Use --set gap.kind=absolute.",
        )


def analyse(scores: Scores, config: GapConfig) -> GapFit:
    """Fit the mixture to `scores` and add the diagnostics.

    Raises the errors of `fit_mixture` and `require_gap_kind`.
    """
    require_gap_kind(config, scores.modalities)
    gap = scores.gap
    mixture, warnings = fit_mixture(gap, config)
    values = mixture.value(gap)
    sample = em.points(values, config.sd_floor)
    fitted = {
        k: mixture if k == len(mixture.weights) else _fitted(sample, k, config)
        for k in _counts(sample, len(gap))
    }
    bic = _bic(values, fitted)
    # ICL = BIC - 2 sum_i sum_k t_ik log t_ik, with t_ik the probability of component k given sample i
    # (Biernacki, Celeux and Govaert, 2000): it prefers components that overlap little; BIC only rewards the
    # fit.
    icl = {k: bic[k] + 2 * fitted[k].entropy(values) for k in bic}
    # |gap| of a single population around 0 is a folded Gaussian, which two components fit better than one.
    # The number of populations is therefore tested on the signed gaps, which only two modalities have.
    folded = config.kind == "absolute" and len(scores.modalities) == 2
    signed_bic = _signed_bic(gap, config) if folded else bic
    if len(mixture.weights) > 1 and 1 in (_best(bic), _best(signed_bic)):
        over = "" if _best(bic) == 1 else " over signed gaps"
        warnings.append(
            f"BIC{over} prefers one component: the gaps are unimodal, no evidence of two populations."
        )
    posterior = mixture.posterior(gap)
    return GapFit(
        scores=scores,
        mixture=mixture,
        posterior=posterior,
        component=mixture.components(gap, posterior),
        bic=bic,
        icl=icl,
        log_likelihood=mixture.log_likelihood(values),
        crossing=mixture.crossing(),
        warnings=warnings,
    )


def _counts(sample: em.Points, n: int) -> list[int]:
    """Return the possible numbers of components, at most the number of distinct values; [] if too few."""
    return [k for k in BIC_COMPONENTS if k <= len(sample)] if n >= MIN_SAMPLES else []


def _bic(values: FloatArray, fitted: Mapping[int, Mixture]) -> dict[int, float]:
    """Return (3K - 1) log N - 2 log L of each mixture of K components (Schwarz, 1978)."""
    penalty = float(np.log(len(values)))
    return {k: (3 * k - 1) * penalty - 2 * m.log_likelihood(values) for k, m in fitted.items()}


def _signed_bic(gap: FloatArray, config: GapConfig) -> dict[int, float]:
    sample = em.points(gap, config.sd_floor)
    return _bic(gap, {k: _fitted(sample, k, config) for k in _counts(sample, len(gap))})


def _best(criterion: dict[int, float]) -> int | None:
    return min(criterion, key=lambda k: criterion[k], default=None)


def _fitted(sample: em.Points, components: int, config: GapConfig) -> Mixture:
    """Fit Gaussians to a sample, and name the balanced one.

    Only EM uses points; posteriors, likelihoods, BIC and ICL are computed from every value.
    """
    fitted, _ = em.fit_sample(
        sample, components, config.sd_floor, random_starts=config.n_init, seed=config.seed
    )
    order = np.argsort(fitted.means[0])
    weights, means, sds = fitted.weights[0, order], fitted.means[0, order], fitted.sds[0, order]
    return Mixture(config.kind, weights, means, sds, int(balanced_component(means, sds)))
