"""Tests of paired differences: over seeds, and over the samples of two classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from mgap_cli.errors import UnfitError
from mgap_cli.stats.arrays import BoolArray

EXACT_PAIRS = 16  # up to this many differences, all 2^n sign patterns are computed
DRAWS = 100_000  # random sign patterns for more differences
EXACT_BELOW = 25  # discordant pairs under which McNemar's test is exact


def sign_flip(differences: Sequence[float], seed: int = 0) -> float:
    """Return the two-sided p-value of the hypothesis that n paired differences are symmetric about 0.

    This is Fisher's (1935) randomisation test. With up to 16 differences, p is the share of all 2^n sign
    patterns, the observed one included, whose mean is at least as far from 0 as the observed mean. With more,
    p is (1 + hits) / (1 + draws) over random patterns. p is 1 if all differences are 0.
    Raises UnfitError for a difference that is NaN or infinite.
    """
    d = np.asarray(differences, dtype=np.float64)
    bad = int(np.count_nonzero(~np.isfinite(d)))
    if bad:
        raise UnfitError(
            f"The seeds cannot be compared: {bad} of {len(d)} differences are NaN or infinite.",
            "Check the accuracies that they come from.",
        )
    if not d.any():
        return 1.0
    extreme = abs(d.sum()) * (1 - 1e-9)  # differences as small as rounding errors count as 0
    if len(d) <= EXACT_PAIRS:
        signs = np.array(list(product((1.0, -1.0), repeat=len(d))))
        return float(np.mean(np.abs(signs @ d) >= extreme))
    signs = np.random.default_rng(seed).choice([1.0, -1.0], size=(DRAWS, len(d)))
    return float((1 + np.sum(np.abs(signs @ d) >= extreme)) / (1 + DRAWS))


def smallest_p(n: int) -> float:
    """Return the smallest p-value that `sign_flip` of n differences can have: 2 / 2^n."""
    return 2.0 ** (1 - n) if 0 < n <= EXACT_PAIRS else 1 / (1 + DRAWS) if n else 1.0


@dataclass(frozen=True)
class McNemar:
    """Test that two classifiers err equally often on the same samples."""

    p_value: float
    method: str  # 'exact binomial' | 'chi-square, continuity corrected'
    only_a: int  # samples that only a classifies correctly
    only_b: int


def mcnemar(correct_a: BoolArray, correct_b: BoolArray) -> McNemar:
    """Test equal accuracy of two classifiers on the same samples (N,), two-sided (McNemar, 1947).

    Let b and c be the numbers of samples that only the first, and only the second, gets right. If b + c is
    under 25, this is the exact binomial test of b in b + c at 1/2. Otherwise (|b - c| - 1)^2 / (b + c) is
    compared with chi-square(1) (Edwards, 1948).
    """
    from scipy.stats import binomtest, chi2

    only_a, only_b = int((correct_a & ~correct_b).sum()), int((~correct_a & correct_b).sum())
    discordant = only_a + only_b
    if discordant < EXACT_BELOW:
        p = float(binomtest(only_a, discordant, 0.5).pvalue) if discordant else 1.0
        return McNemar(p, "exact binomial", only_a, only_b)
    statistic = max(abs(only_a - only_b) - 1, 0) ** 2 / discordant
    return McNemar(float(chi2.sf(statistic, 1)), "chi-square, continuity corrected", only_a, only_b)
