"""Linear probes: the accuracy of a linear classifier on each encoder's frozen features.

Linear probes come from Alain and Bengio, Understanding intermediate layers using linear classifier probes,
2016. Compared with a network that is trained on that modality alone, they show what joint training did not
learn (Du et al., On Uni-modal Feature Learning in Supervised Multi-modal Learning, ICML 2023, compare
encoders in this way). A multinomial logistic regression (L2 penalty, C = 1, on features of mean 0 and
variance 1) is fitted to the features f_m of the training split and

    probe accuracy_m    its accuracy on the split that is analysed
    probe gap_m         accuracy of the unimodally trained network - probe accuracy_m, on the same samples

On `train` the accuracy is optimistic, because the probe was fitted to these samples.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from mgap_cli.analysis.measures.measure import Measure, difference_of_means
from mgap_cli.config import EvaluateConfig
from mgap_cli.errors import UnfitError
from mgap_cli.evaluation.metrics import bootstrap_mean
from mgap_cli.stats.arrays import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mgap_cli.data.loading.loader import Batch
    from mgap_cli.model.network import MultimodalNetwork

PROBE_SOURCE = "Alain and Bengio, 2016"
GAP_SOURCE = "as Du et al., ICML 2023"
MAX_ITERATIONS = 1_000


@dataclass(frozen=True)
class Features:
    """Labels (N,); by modality, features (N, D) and, in additive fusions, softmax contributions (N, C)."""

    labels: IntArray
    features: dict[str, FloatArray]
    shares: dict[str, FloatArray]


@torch.inference_mode()
def features(network: MultimodalNetwork, batches: Iterable[Batch]) -> Features:
    """Return the encoders' features of the batches, computed in eval mode."""
    from mgap_cli.model.network import probabilities

    was_training = network.training
    network.eval()
    labels = []
    encoded: dict[str, list[torch.Tensor]] = {m: [] for m in network.encoders}
    shared: dict[str, list[torch.Tensor]] = {m: [] for m in network.encoders}
    for batch in batches:
        outputs = network(batch.inputs)
        labels.append(batch.labels.cpu())
        for modality, f in outputs.features.items():
            encoded[modality].append(f.cpu())
        for modality, part in outputs.contributions.items():
            shared[modality].append(probabilities(part).cpu())
    network.train(was_training)

    def stacked(parts: dict[str, list[torch.Tensor]]) -> dict[str, FloatArray]:
        return {m: torch.cat(p).numpy().astype(np.float64) for m, p in parts.items() if p}

    return Features(torch.cat(labels).numpy(), stacked(encoded), stacked(shared))


def probe_hits(train: Features, split: Features) -> dict[str, BoolArray]:
    """Return by modality the (N,) samples of the split that its probe, fitted to `train`, gets right.

    Raises UnfitError for a training split of one class, to which no classifier can be fitted.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(train.labels)) < 2:
        raise UnfitError("A linear probe needs two classes; the training split has one.")
    hits = {}
    for name, values in train.features.items():
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MAX_ITERATIONS))
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", ConvergenceWarning
            )  # the fit does not converge on separable features, but the accuracy is right
            probe.fit(values, train.labels)
        hits[name] = np.asarray(probe.predict(split.features[name]) == split.labels)
    return hits


def probe_measures(
    hits: Mapping[str, BoolArray], unimodal: Mapping[str, BoolArray], config: EvaluateConfig
) -> list[Measure]:
    """Return the probes' accuracies and, given the (N,) hits of unimodal networks, the probe gaps.

    The two gaps are compared if both are known.
    """
    first, second = hits
    n = len(hits[first])
    a, b, value, interval = difference_of_means(hits[first].astype(float), hits[second].astype(float), config)
    measures = [
        Measure(
            "probe_accuracy",
            "probe accuracy",
            a,
            b,
            "difference",
            value,
            interval,
            n,
            PROBE_SOURCE,
            percent=True,
        )
    ]
    gaps = {m: right.astype(float) - hits[m].astype(float) for m, right in unimodal.items()}
    if not gaps:
        return measures
    means = {m: float(gap.mean()) for m, gap in gaps.items()}
    difference = gaps[first] - gaps[second] if len(gaps) == 2 else None
    measures.append(
        Measure(
            "probe_gap",
            "probe gap",
            means.get(first),
            means.get(second),
            "difference",
            None if difference is None else float(difference.mean()),
            None if difference is None else bootstrap_mean(difference, config),
            n,
            GAP_SOURCE,
            higher_leads=False,
            percent=True,
        )
    )
    return measures
