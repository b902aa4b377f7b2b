"""The discrepancy ratio: how much likelier one modality finds the true classes than the other.

Source: Peng, Wei, Deng, Wang and Hu, Balanced Multimodal Learning via On-the-fly Gradient Modulation
(OGM-GE), CVPR 2022. There over a batch, of the additive fusion's shares; here over the whole split:

    rho = sum_i p_first,i / sum_i p_second,i,    p_m,i = softmax(z_m,i)[y_i]

once of the unimodal logits that the gap is made of and, where the fusion is additive, once of its shares
W_m f_m + b/2. Interval (ours): by the delta method on log rho, whose variance is that of
p_first,i / mean p_first - p_second,i / mean p_second over n.
"""

from __future__ import annotations

import math

import numpy as np

from mgap_cli.analysis.measures.measure import Measure
from mgap_cli.stats.arrays import FloatArray
from mgap_cli.stats.intervals import Interval

SOURCE = "Peng et al., OGM-GE, CVPR 2022"


def discrepancy_ratio(
    first: FloatArray,
    second: FloatArray,
    confidence: float,
    key: str = "discrepancy_ratio",
    of: str = "heads",
) -> Measure:
    """Return the ratio of (N,) true-class probabilities; without a value where a modality's are all 0."""
    from scipy.special import ndtri

    n, a, b = len(first), float(np.mean(first)), float(np.mean(second))
    value, interval = None, None
    if a > 0 and b > 0:
        value = a / b
        if n > 1:
            spread = float(np.std(np.asarray(first) / a - np.asarray(second) / b, ddof=1)) / math.sqrt(n)
            reach = float(ndtri(0.5 + confidence / 2)) * spread
            interval = Interval(value * math.exp(-reach), value * math.exp(reach))
    return Measure(key, f"discrepancy, {of}", a, b, "ratio", value, interval, n, SOURCE)
