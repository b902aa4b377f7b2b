"""Maximum likelihood for one-dimensional Gaussian mixtures, by the EM algorithm.

`fit_sample` fits one sample and searches for the best optimum. `fit` and `refine` fit many samples together,
as a bootstrap needs it.

**What is maximised.** The log-likelihood, under the constraint that no standard deviation is below
`sd_floor`. Without the constraint there is no maximum: a component that shrinks onto one sample makes the
likelihood infinite. With it there is one (Hathaway, Annals of Statistics 13, 1985). The M-step takes
max(variance, sd_floor^2). This is the exact constrained maximum, because the expected log-likelihood has a
single peak in each variance. EM (Dempster, Laird and Rubin, JRSS B 39, 1977) therefore never lowers the
likelihood. A component may end at the floor and hold very few samples. Such a result is kept, because it is
the maximum; `gap/mixture.py` decides how many samples make a population, and warns.

**Samples of every size take the same path.** EM runs on points with counts: values that fall into one bin
of `WIDTH` floors are replaced by their mean. A small sample keeps nearly every value as a separate point, and
a million values become at most a few thousand points. Bins lie at multiples of their width, so they do not
depend on the sample. The variance that a bin hides is about width^2 / 12 (Sheppard), 0.03 % of the smallest
variance allowed.

**Speed.** EM is slow where components overlap. So each cycle of two EM steps is followed by a SQUAREM
extrapolation (Varadhan and Roland, Scandinavian Journal of Statistics 35, 2008, scheme S3) and one more EM
step from there. An extrapolation that lowers the likelihood is dropped.

**Folded components** are |N(mu, sd^2)|, the folded normal distribution (Leone, Nelson and Nottingham,
Technometrics 3, 1961): the distribution of |gap| where the gap is Gaussian. EM treats the lost sign as one
more hidden variable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mgap_cli.stats.arrays import FloatArray, IntArray

WIDTH = 1 / 16  # width of a bin, in floors, for the final fit
COARSE_WIDTH = 1 / 2  # width of a bin, in floors, while starts are compared
FINEST = 2.0**-15  # smallest width of a bin: values in [-1, 1] make at most 65,537 points
SHORT = 8  # cycles after which only the best starts continue
FINALISTS = 4  # starts that `fit_sample` continues
MAX_CYCLES = 400
TOLERANCE = 1e-4  # gain in nats, over the whole sample, below which no further cycle follows
SAME = 1e-2  # difference in nats below which two results count as the same

# Starts of `fit_sample`. The sorted sample is cut at quantiles (k / K)^skew. With two components, the lower
# one gets 95, 90, 76, 50, 25, 10 and 3 % of the samples.
SKEWS = (0.07, 0.15, 0.4, 1.0, 2.0, 3.3, 5.0)
SPIKES = (0.1, 0.25, 0.5)  # shares of the samples in the narrow component
KMEANS_ITERATIONS = 50


@dataclass(frozen=True)
class Components:
    """B Gaussian mixtures of K components. weights, means, sds: (B, K)."""

    weights: FloatArray
    means: FloatArray
    sds: FloatArray

    def log_density(self, x: FloatArray) -> FloatArray:
        """Return (B, K, M) logarithms of the weighted densities at x (M,), not folded."""
        # It is a quadratic in x, so all of it is one matrix product.
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


@dataclass(frozen=True)
class Points:
    """A sample as distinct values x (M,), ascending, each with its count (M,)."""

    x: FloatArray
    counts: FloatArray

    def __len__(self) -> int:
        return len(self.x)


def points(values: FloatArray, sd_floor: float) -> Points:
    """Return the points that stand for values (N,): the means of bins of `WIDTH` floors."""
    return _binned(values, np.ones(len(values)), max(WIDTH * sd_floor, FINEST))


def fit_sample(
    sample: Points, components: int, sd_floor: float, *, random_starts: int, seed: int
) -> tuple[Components, float]:
    """Fit K Gaussians to a sample; return them as one row (1, K) and the log-likelihood in nats.

    The likelihood of a mixture has many local maxima, and EM finds the one above its start. So for K > 1 EM
    starts 11 + `random_starts` (K - 1) times, from starts that differ in kind, because each kind fails
    somewhere:

    - 7 cuts of the sorted sample at quantiles, from even to very uneven, for components of unequal weight;
    - the partition of k-means, for components that lie apart;
    - 3 spikes: the shortest interval that holds 10, 25 or 50 % of the samples, and the other components
      over the whole sample, for a narrow component inside a wide one;
    - random ones: means at random quantiles, and standard deviations from the floor to the sample's.

    Every start runs `SHORT` cycles on coarse bins, and the `FINALISTS` best run until they converge. Those
    that differ are refined on the sample itself, and the likeliest result is kept. On 99 hard samples and two
    components (`tests/stats/test_em.py`) the result is never more than 0.1 nats below the best of 30 other
    starts. A single start from k-means is more than that below it in 25 of the 99.
    """
    coarse = _binned(sample.x, sample.counts, max(COARSE_WIDTH * sd_floor, FINEST))
    fits = _starts(coarse, components, sd_floor, random_starts, seed)
    for cycles in (SHORT, MAX_CYCLES):
        fits, likelihood = refine(coarse.x, _repeated(coarse.counts, fits), fits, sd_floor, cycles=cycles)
        fits = fits.at(_best_distinct(likelihood))
    fits, likelihood = refine(sample.x, _repeated(sample.counts, fits), fits, sd_floor)
    best = int(np.argmax(likelihood))
    return fits.at(np.array([best])), float(likelihood[best])


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
    run `SHORT` cycles, and the best start of each row continues.
    """
    started = []
    for cut in cuts:
        start = _cut(x, counts, components, cut, sd_floor)
        started.append(refine(x, counts, start, sd_floor, folded=folded, cycles=SHORT))
    best = np.argmax([likelihood for _, likelihood in started], axis=0)  # (B,)
    rows = np.arange(len(counts))
    chosen = Components(
        *(
            np.stack([getattr(fitted, name) for fitted, _ in started])[best, rows]
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
    cycles: int = MAX_CYCLES,
) -> tuple[Components, FloatArray]:
    """Run accelerated EM from `start` on each row of counts (B, M) until its log-likelihood stops growing.

    Return the mixtures and their log-likelihoods (B,), in nats, at most `TOLERANCE` too low.
    """
    now = Components(*(np.array(a) for a in (start.weights, start.means, start.sds)))
    likelihood = np.full(len(counts), -np.inf)
    active = np.arange(len(counts))
    reach = float(np.abs(x).max())
    for _ in range(cycles):
        weight, first = counts[active], now.at(active)
        begin, second = _step(x, weight, first, sd_floor, folded)
        middle, third = _step(x, weight, second, sd_floor, folded)
        far = _extrapolated(first, second, third, sd_floor, reach)
        end, fourth = _step(x, weight, far, sd_floor, folded)
        better = end > middle
        reached = np.where(better, end, middle)
        likelihood[active] = reached
        for name in ("weights", "means", "sds"):
            chosen = np.where(better[:, None], getattr(fourth, name), getattr(third, name))
            getattr(now, name)[active] = chosen
        active = active[reached - begin > TOLERANCE]
        if not len(active):
            break
    return now, likelihood


def _step(
    x: FloatArray, counts: FloatArray, now: Components, sd_floor: float, folded: bool
) -> tuple[FloatArray, Components]:
    """Take one EM step; return the log-likelihoods (B,) before it, and the mixtures after it."""
    log_density = now.log_density(x)
    if folded:
        mirrored = Components(now.weights, -now.means, now.sds).log_density(x)
        log_density = np.concatenate([log_density, mirrored], axis=1)
    top = log_density.max(axis=1, keepdims=True)
    shares = np.exp(log_density - top)
    total = shares.sum(axis=1, keepdims=True)
    shares /= total
    likelihood = (counts * (np.log(total) + top)[:, 0]).sum(axis=1)
    return likelihood, _maximised(x, counts, shares, sd_floor, folded)


def _maximised(
    x: FloatArray, counts: FloatArray, shares: FloatArray, sd_floor: float, folded: bool = False
) -> Components:
    """Return the likeliest parameters, given the shares (B, K, M) of each point in the components.

    Where `folded`, shares (B, 2K, M) are those of K components and then of their mirror images.
    """
    moments = (counts[:, None, :] * shares) @ _powers(x).T  # (B, K, 3)
    if folded:
        moments, mirrored = np.split(moments, 2, axis=1)
        moments = moments + mirrored * [1, -1, 1]
    mass = moments[..., 0] + 10 * np.finfo(np.float64).eps  # an empty component keeps finite parameters
    means = moments[..., 1] / mass
    variance = np.maximum(moments[..., 2] / mass - means**2, sd_floor**2)
    return Components(mass / mass.sum(axis=1, keepdims=True), means, np.sqrt(variance))


def _extrapolated(
    first: Components, second: Components, third: Components, sd_floor: float, reach: float
) -> Components:
    """Extrapolate two EM steps: return theta - 2 a r + a^2 v with a = -|r| / |v|, a <= -1.

    theta: logarithms of weights, means, logarithms of standard deviations. r: the first step. v: the second
    step less the first. The result is clipped to the range that contains every maximum: |mean| and sd are at
    most `reach`, the largest |x|, and sd is at least the floor.
    """
    a, b, c = (np.stack([np.log(m.weights), m.means, np.log(m.sds)], axis=1) for m in (first, second, third))
    r, v = b - a, c - 2 * b + a
    length = np.sqrt((r**2).sum(axis=(1, 2)) / np.maximum((v**2).sum(axis=(1, 2)), 1e-300))
    pace = -np.maximum(length, 1)[:, None, None]
    log_weights, means, log_sds = np.moveaxis(a - 2 * pace * r + pace**2 * v, 1, 0)
    log_weights = np.clip(log_weights - log_weights.max(axis=1, keepdims=True), -100, 0)
    weights = np.exp(log_weights)
    low = float(np.log(sd_floor))
    sds = np.exp(np.clip(log_sds, low, max(low, float(np.log(max(reach, sd_floor))))))
    return Components(weights / weights.sum(axis=1, keepdims=True), np.clip(means, -reach, reach), sds)


def _starts(sample: Points, components: int, sd_floor: float, random_starts: int, seed: int) -> Components:
    """Return the starts that `fit_sample` names, as rows (S, K)."""
    x, counts = sample.x, sample.counts[None]
    even = np.arange(1, components) / components
    if components == 1:
        return _cut(x, counts, 1, even, sd_floor)
    cut = [_cut(x, counts, components, even**skew, sd_floor) for skew in SKEWS]
    spikes = [_spike(sample, components, share, sd_floor) for share in SPIKES]
    random_starts *= components - 1  # more components make more local optima
    drawn = _random(sample, components, sd_floor, random_starts, np.random.default_rng(seed))
    rows = [*cut, _kmeans(sample, components, sd_floor), *spikes, drawn]
    return Components(
        *(np.concatenate([getattr(row, name) for row in rows]) for name in ("weights", "means", "sds"))
    )


def _cut(
    x: FloatArray, counts: FloatArray, components: int, cut: Sequence[float] | FloatArray, sd_floor: float
) -> Components:
    """Return (B, K) components of the sorted samples, cut at K - 1 quantiles."""
    owner = np.searchsorted(np.asarray(cut), _ranks(counts))  # (B, M)
    shares = owner[:, None, :] == np.arange(components)[:, None]
    return _maximised(x, counts, shares.astype(np.float64), sd_floor)


def _kmeans(sample: Points, components: int, sd_floor: float) -> Components:
    """Return (1, K) components of the partition that Lloyd's algorithm reaches from an even cut."""
    x, counts = sample.x, sample.counts
    centres = _cut(x, counts[None], components, np.arange(1, components) / components, sd_floor).means[0]
    for _ in range(KMEANS_ITERATIONS):
        owner = np.searchsorted((centres[1:] + centres[:-1]) / 2, x)
        mass = np.bincount(owner, counts, components)
        moved = np.bincount(owner, counts * x, components) / np.maximum(mass, 1)
        moved = np.sort(np.where(mass > 0, moved, centres))
        if np.array_equal(moved, centres):
            break
        centres = moved
    shares = (owner == np.arange(components)[:, None]).astype(np.float64)
    return _maximised(x, counts[None], shares[None], sd_floor)


def _spike(sample: Points, components: int, share: float, sd_floor: float) -> Components:
    """Return (1, K) components: one in the shortest interval that holds `share`, the others over all."""
    x, counts = sample.x, sample.counts
    total = np.cumsum(counts)
    before = total - counts
    end = np.minimum(np.searchsorted(total, before + share * total[-1] * (1 - 1e-9)), len(x) - 1)
    holds = total[end] - before >= share * total[-1] * (1 - 1e-9)
    first = int(np.argmin(np.where(holds, x[end] - x, np.inf)))
    inside = np.zeros(len(x))
    inside[first : end[first] + 1] = 0.5
    others = components - 1
    owner = np.searchsorted(np.arange(1, others) / others, _ranks(counts[None])[0])
    outside = (owner == np.arange(others)[:, None]) * (1 - inside)
    return _maximised(x, counts[None], np.stack([inside, *outside])[None], sd_floor)


def _random(
    sample: Points, components: int, sd_floor: float, starts: int, generator: np.random.Generator
) -> Components:
    """Return (S, K) components at random quantiles, of equal weights, with log-uniform deviations."""
    quantile, size = generator.random((2, starts, components))
    means = np.interp(quantile, _ranks(sample.counts[None])[0], sample.x)
    whole = _cut(sample.x, sample.counts[None], 1, (), sd_floor).sds[0, 0]
    sds = sd_floor * (whole / sd_floor) ** size
    return Components(np.full((starts, components), 1 / components), means, sds)


def _repeated(counts: FloatArray, start: Components) -> FloatArray:
    """Return the counts (M,) repeated for each start, (S, M)."""
    return np.repeat(counts[None], len(start.weights), axis=0)


def _best_distinct(likelihood: FloatArray) -> IntArray:
    """Return the indices of the `FINALISTS` highest likelihoods that differ from one another."""
    order = np.argsort(-likelihood, kind="stable")
    ranked = likelihood[order]
    differs = np.append(True, ranked[:-1] - ranked[1:] > SAME)
    return np.asarray(order[differs][:FINALISTS])


def _binned(values: FloatArray, counts: FloatArray, width: float) -> Points:
    """Return the mean and the count of each bin of `width` that holds some of the weighted values."""
    index = np.floor(values / width).astype(np.int64)
    index -= index.min()
    occupied = np.bincount(index, counts).astype(np.float64)
    sums = np.bincount(index, counts * values).astype(np.float64)
    some = occupied > 0
    return Points(sums[some] / occupied[some], occupied[some])


def _ranks(counts: FloatArray) -> FloatArray:
    """Return (B, M): the quantile of each point, taken in the middle of the point's share."""
    return np.asarray((np.cumsum(counts, axis=1) - counts / 2) / counts.sum(axis=1, keepdims=True))


def _powers(x: FloatArray) -> FloatArray:
    return np.stack([np.ones_like(x), x, x**2])
