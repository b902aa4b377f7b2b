"""Division of samples into folds, each of which is held out in turn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mgap_cli.stats.arrays import IntArray

FOLDS = 5


def folds_of(labels: IntArray, folds: int = FOLDS) -> IntArray:
    """Return the fold (N,) of each sample, drawn at random with a fixed seed; each class is spread evenly.

    The sizes of the folds differ by at most 1, and so do the numbers of samples of each class in them. No
    fold is empty: if there are fewer samples than folds, there is one fold per sample.
    """
    shuffled = np.random.default_rng(0).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    fold = np.empty(len(labels), dtype=np.int64)
    fold[by_class] = np.arange(len(labels)) % folds
    return fold


def group_folds(groups: Sequence[str], folds: int = FOLDS) -> IntArray:
    """Return the fold (N,) of each sample; samples of one group are in one fold.

    Groups are drawn at random with a fixed seed, the largest first, and each goes into the fold that has the
    fewest samples. If there are fewer groups than folds, there is one fold per group.
    """
    names, member, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    shuffled = np.random.default_rng(0).permutation(len(names))
    filled = np.zeros(min(folds, len(names)), dtype=np.int64)
    fold = np.empty(len(names), dtype=np.int64)
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        fold[group] = filled.argmin()
        filled[fold[group]] += sizes[group]
    return fold[member]
