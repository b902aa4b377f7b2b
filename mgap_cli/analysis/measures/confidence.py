"""Shares of confidence and of entropy: which modality's own head is the surer, right or wrong.

Source: ours; both are usual measures of a classifier's certainty, set against each other. With p_m,i the
(C,) probabilities of modality m's own head for sample i,

    c_m,i = max_c p_m,i[c]                  confidence share of m:  mean_i c_m,i / (c_first,i + c_second,i)
    H_m,i = -sum_c p_m,i[c] log p_m,i[c]    entropy share of m:     mean_i H_m,i / (H_first,i + H_second,i)

The shares of both sum to 1; where both entropies are 0 each has a half. The smaller entropy leads.
No label enters: a modality that is surely wrong leads here, and not in the gap.
"""

from __future__ import annotations

import numpy as np

from mgap_cli.analysis.measures.measure import Measure, difference_of_means
from mgap_cli.config import EvaluateConfig
from mgap_cli.stats.arrays import FloatArray

SOURCE = "ours"


def confidence_share(first: FloatArray, second: FloatArray, config: EvaluateConfig) -> Measure:
    """Return the confidence share of the (N,) highest probabilities of two heads."""
    share = _share(first, second)
    a, b, value, interval = difference_of_means(share, 1 - share, config)
    name, n = "confidence share", len(first)
    return Measure("confidence_share", name, a, b, "difference", value, interval, n, SOURCE, percent=True)


def entropy_share(first: FloatArray, second: FloatArray, config: EvaluateConfig) -> Measure:
    """Return the entropy share of the (N,) entropies of two heads; the smaller leads."""
    share = _share(first, second)
    a, b, value, interval = difference_of_means(share, 1 - share, config)
    return Measure(
        "entropy_share",
        "entropy share",
        a,
        b,
        "difference",
        value,
        interval,
        len(first),
        SOURCE,
        higher_leads=False,
        percent=True,
    )


def _share(first: FloatArray, second: FloatArray) -> FloatArray:
    total = first + second
    return np.divide(first, total, out=np.full_like(total, 0.5), where=total > 0)
