"""Find samples that may be labelled wrongly: all unimodal heads are sure of the same other class.

The rule is ours. Two heads that see different modalities seldom make the same confident mistake by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mgap_cli.errors import UsageError
from mgap_cli.gap.scores import Scores
from mgap_cli.stats.arrays import BoolArray, FloatArray


@dataclass(frozen=True)
class Candidates:
    """Samples to look at, sorted by the confidence of the least confident head, highest first.

    labels, suggested: class names. confidence: modality to (n,) probabilities of the suggested class.
    """

    ids: list[str]
    labels: list[str]
    suggested: list[str]
    confidence: dict[str, FloatArray]


def label_candidates(pairs: Sequence[Scores], chosen: BoolArray, confidence: float) -> Candidates:
    """Return the samples among (N,) `chosen` whose unimodal heads all give another class this confidence.

    pairs: tables of the same samples; the modalities of all tables count. Raises UsageError if a modality has
    scores of the true class only, because these name no other class.
    """
    heads = {name: scores for scores in pairs for name in scores.modalities}
    lacking = [name for name, scores in heads.items() if name not in scores.certainty]
    if lacking:
        raise UsageError(
            f"--relabel: {', '.join(lacking)} has scores of the true class alone.",
            "Give the probabilities or logits of all classes.",
        )
    first = pairs[0]
    predicted = np.stack([scores.predicted[name] for name, scores in heads.items()])  # (M, N)
    sure = np.stack([scores.certainty[name][:, 0] for name, scores in heads.items()])
    agreed = (predicted == predicted[0]).all(axis=0) & (predicted[0] != first.labels)
    rows = np.flatnonzero(chosen & agreed & (sure >= confidence).all(axis=0))
    rows = rows[np.argsort(-sure[:, rows].min(axis=0), kind="stable")]
    return Candidates(
        ids=[first.ids[i] for i in rows],
        labels=[first.classes[first.labels[i]] for i in rows],
        suggested=[first.classes[predicted[0, i]] for i in rows],
        confidence={name: sure[k, rows] for k, name in enumerate(heads)},
    )
