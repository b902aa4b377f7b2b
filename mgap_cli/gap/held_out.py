"""Scores of training samples from linear heads that did not see these samples.

The unimodal head of a branch that memorises its training samples gives each of them a high probability. Here,
a linear classifier is fitted to the encoder's frozen features of K - 1 folds of the training split, and
scores the samples of the remaining fold; every sample is held out once. All samples of a group, such as a
speaker, are in the same fold. The encoder itself has seen all these samples. What it has memorised in its
features therefore remains, and only a validation split shows it. The construction is ours; cross-fitting is
that of Stone, Cross-validatory choice and assessment of statistical predictions, JRSS B 36, 1974.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mgap_cli.errors import UnfitError
from mgap_cli.gap.scores import Scores, scores_of
from mgap_cli.stats.arrays import FloatArray, IntArray
from mgap_cli.stats.folds import folds_of, group_folds

if TYPE_CHECKING:
    from mgap_cli.model.inference import Predictions

GROUP = "group"  # the column of clips.csv that names the groups, which must not be divided
MAX_ITERATIONS = 300


def cross_fitted_probabilities(
    features: FloatArray, labels: IntArray, classes: int, fold: IntArray
) -> FloatArray:
    """Return probabilities (N, C) for features (N, D): each fold is scored by a head fitted to the others.

    The head is a multinomial logistic regression (L2 penalty, C = 1, on features of mean 0 and variance 1).
    A class that does not occur in the other folds gets probability 0.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probabilities = np.zeros((len(labels), classes))
    for k in np.unique(fold):
        members, others = np.flatnonzero(fold == k), np.flatnonzero(fold != k)
        present = np.unique(labels[others])
        if len(present) < 2:
            probabilities[np.ix_(members, present)] = 1.0
            continue
        head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MAX_ITERATIONS))
        # The fit does not converge for separable features, but its probabilities are usable.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            head.fit(features[others], labels[others])
        probabilities[np.ix_(members, present)] = head.predict_proba(features[members])
    return probabilities


def held_out_scores(predictions: Predictions, scores: Scores) -> Scores:
    """Return the scores with those of the unimodal heads replaced by cross-fitted ones.

    predictions: those of the same samples, with features. Raises UnfitError if nothing can be held out,
    because there are fewer than two samples or only one group.
    """
    fold = _folds(scores)
    classes = len(scores.classes)
    cross = {
        name: cross_fitted_probabilities(features.astype(np.float64), predictions.labels, classes, fold)
        for name, features in predictions.features.items()
    }
    rows = np.arange(len(scores))
    replaced = dataclasses.replace(
        predictions, index=rows, probabilities={**predictions.probabilities, **cross}
    )
    return scores_of(replaced, scores.ids, scores.classes, scores.columns)


def _folds(scores: Scores) -> IntArray:
    groups: Sequence[str] = scores.columns.get(GROUP, ())
    # A sample without a group forms its own group.
    named = [group or f"\0{i}" for i, group in enumerate(groups)]
    fold = group_folds(named) if any(groups) else folds_of(scores.labels)
    if len(np.unique(fold)) < 2:
        raise UnfitError(
            "Nothing can be held out: the training split has one sample or one group.",
            "Leave out --held-out, and analyse --split val.",
        )
    return fold
