"""Shares of confidence and of entropy: which unimodal head is more certain, whether right or wrong.

The shares are ours; confidence and entropy are the usual measures of a classifier's certainty. Let p_m,i be
the (C,) probabilities of the head of modality m for sample i:

    c_m,i = max_c p_m,i[c]                  confidence share of m:  mean_i c_m,i / (c_first,i + c_second,i)
    H_m,i = -sum_c p_m,i[c] log p_m,i[c]    entropy share of m:     mean_i H_m,i / (H_first,i + H_second,i)

The shares of both modalities sum to 1; if both entropies are 0, each is one half. The smaller entropy leads.
No label is used: a modality that is certain and wrong leads here, but not in the gap.
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
