"""Which grids of rounded scores are found, and that spreading equal gaps keeps their distribution."""

from __future__ import annotations

import numpy as np
import pytest

from mgap_cli.stats.rounding import grid_step, spread_over_step


@pytest.mark.parametrize("steps", [1, 4, 5, 12, 50, 100, 255, 1000])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_grids_are_found(steps, dtype):
    generator = np.random.default_rng(steps)
    first, second = ((np.round(steps * generator.random(5000)) / steps).astype(dtype) for _ in range(2))
    gap = first.astype(np.float64) - second.astype(np.float64)
    assert grid_step(gap) == pytest.approx(1 / steps)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_scores_that_were_not_rounded_have_no_grid(dtype):
    generator = np.random.default_rng(0)
    gap = generator.beta(2, 5, 3000).astype(dtype).astype(np.float64)
    assert grid_step(gap) is None
    assert grid_step(np.repeat(gap, 5)) is None  # each value several times
    assert grid_step(np.where(generator.random(3000) < 0.8, 0.0, gap)) is None  # many are exactly 0


def test_gaps_stay_in_their_step_and_none_are_equal():
    generator = np.random.default_rng(0)
    exact = np.clip(generator.normal(0, 0.4, 4000), -1, 1)
    rounded = np.round(exact, 1)
    spread = spread_over_step(rounded, 0.1)
    inner = spread[np.abs(spread) < 0.95]  # beyond, the step is folded at the border
    assert len(np.unique(inner)) == len(inner)
    assert np.abs(spread - rounded).max() <= 0.05 + 1e-12
    assert np.abs(spread).max() <= 1
    # The distribution is that before rounding, up to the size of a step.
    grid = np.linspace(0, 1, 21)
    before, after = (np.searchsorted(np.sort(np.abs(x)), grid) / 4000 for x in (exact, spread))
    assert np.abs(before - after).max() < 0.02
