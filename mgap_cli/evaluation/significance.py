"""Tests of paired differences, and what many of them at once do to a p-value."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from mgap_cli.errors import UnfitError

EXACT_PAIRS = 16  # up to so many, every one of the 2^n sign patterns is looked at
DRAWS = 100_000  # of more pairs


def sign_flip(differences: Sequence[float], seed: int = 0) -> float:
    """Return the two-sided p-value that n paired differences have a distribution symmetric about 0.

    Fisher's (1935) randomisation test: the share of the 2^n ways to choose the signs whose mean is at
    least as far from 0 as the observed one, which is among them, all counted; of more than 16
    differences, (1 + hits) / (1 + draws) over random ways. 1 without a difference.
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
    extreme = abs(d.sum()) * (1 - 1e-9)  # a rounding error is no difference
    if len(d) <= EXACT_PAIRS:
        signs = np.array(list(product((1.0, -1.0), repeat=len(d))))
        return float(np.mean(np.abs(signs @ d) >= extreme))
    signs = np.random.default_rng(seed).choice([1.0, -1.0], size=(DRAWS, len(d)))
    return float((1 + np.sum(np.abs(signs @ d) >= extreme)) / (1 + DRAWS))


def smallest_p(n: int) -> float:
    """Return the smallest p-value that `sign_flip` of n differences can have: 2 / 2^n."""
    return 2.0 ** (1 - n) if 0 < n <= EXACT_PAIRS else 1 / (1 + DRAWS) if n else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values after Holm's (1979) step-down correction, which bounds the family-wise error.

    The j-th smallest of m becomes max over i <= j of min(1, (m - i + 1) p_(i)); order is kept.
    """
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = least
    return adjusted
