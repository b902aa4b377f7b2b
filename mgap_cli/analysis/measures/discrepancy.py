"""The discrepancy ratio: how much more probability one modality gives to the true classes.

Source: Peng, Wei, Deng, Wang and Hu, Balanced Multimodal Learning via On-the-fly Gradient Modulation
(OGM-GE), CVPR 2022. The paper takes it over a batch, from the additive fusion's contributions; here it is
over the whole split:

    rho = sum_i p_first,i / sum_i p_second,i,    p_m,i = softmax(z_m,i)[y_i]

It is computed from the unimodal logits, as the gap is, and for an additive fusion also from its contributions
W_m f_m + b/2. The interval (ours) comes from the delta method on log rho, whose variance is that of p_first,i
/ mean p_first - p_second,i / mean p_second over n.
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
    """Return the ratio of (N,) true-class probabilities; it has no value if those of a modality are all 0."""
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
