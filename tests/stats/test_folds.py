"""Folds with whole groups."""

from __future__ import annotations

import numpy as np

from mgap_cli.stats.folds import FOLDS, group_folds


def test_groups_stay_together_and_folds_are_even():
    rng = np.random.default_rng(0)
    groups = [f"speaker {g}" for g in rng.integers(0, 40, 600)]
    fold = group_folds(groups)
    assert set(fold.tolist()) == set(range(FOLDS))
    for name in set(groups):
        assert len({fold[i] for i, group in enumerate(groups) if group == name}) == 1
    largest = max(np.unique(groups, return_counts=True)[1])
    assert np.ptp(np.bincount(fold)) <= largest
    np.testing.assert_array_equal(fold, group_folds(groups))


def test_fewer_groups_than_folds_give_one_fold_each():
    assert sorted(set(group_folds(["a", "b", "a", "c"]).tolist())) == [0, 1, 2]
