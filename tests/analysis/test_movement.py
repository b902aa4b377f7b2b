"""Which samples moved: counts as scikit-learn's, intervals as SciPy's, and the fixed mixture."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix

from mgap_cli.analysis.movement import Movement, movement_of, transition
from mgap_cli.config import Config, EvaluateConfig, GapConfig
from mgap_cli.errors import UnfitError
from mgap_cli.gap.scores import Scores

CONFIG = Config(gap=GapConfig(n_init=1), evaluate=EvaluateConfig(bootstrap=400))
N = 400


def scores(seed: int, apart: float) -> Scores:
    """Scores of 400 samples, of which a share `apart` has a wide gap; the modalities lead in turn."""
    g = np.random.default_rng(seed)
    high = g.beta(9, 2, N)
    low = np.where(g.random(N) < apart, g.beta(1.5, 9, N), np.clip(high + g.normal(0, 0.05, N), 0, 1))
    audio = np.arange(N) % 3 > 0
    p_audio, p_visual = np.where(audio, high, low), np.where(audio, low, high)
    labels = np.arange(N) % 4
    return Scores(
        [f"s{i}" for i in range(N)],
        ("a", "b", "c", "d", "empty"),
        labels,
        {"audio": p_audio, "visual": p_visual},
    )


@pytest.fixture(scope="module")
def moved() -> Movement:
    tables = [scores(0, 0.6), scores(1, 0.4), scores(2, 0.2)]
    return movement_of(["warmup", "middle", "adapt"], tables, "train", CONFIG)


def test_counts_and_intervals(moved):
    before, after = moved.imbalanced[0], moved.imbalanced[2]
    moves = moved.since_first(2)
    (bb, bi), (ib, ii) = confusion_matrix(before, after).tolist()
    assert (moves.stayed_balanced, moves.worsened, moves.recovered, moves.stayed_imbalanced) == (
        bb,
        bi,
        ib,
        ii,
    )
    assert moves.n == N and [row[2] for row in moves.rows()] == [ib, ii, bi, bb]
    interval = moves.interval(moves.recovered, moves.were_imbalanced)
    expected = binomtest(ib, ib + ii).proportion_ci(0.95, method="wilson")
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert moves.change == pytest.approx(after.mean() - before.mean())
    # The paired difference's standard error, in closed form.
    error = 1.96 * np.sqrt(((bi + ib) / N - ((bi - ib) / N) ** 2) / N)
    assert moves.change_interval.low == pytest.approx(moves.change - error, abs=0.015)
    assert moves.change_interval.high == pytest.approx(moves.change + error, abs=0.015)
    assert moves.change < -0.2 and moves.p_value < 1e-6


def test_groups_add_up_to_all_samples(moved):
    whole = moved.since_first(2)
    for groups in (moved.by_class(), moved.by_lead()):
        for name in ("recovered", "stayed_imbalanced", "worsened", "stayed_balanced", "n"):
            assert sum(getattr(t, name) for _, t in groups) == getattr(whole, name)
    assert {name for name, _ in moved.by_class()} == {"a", "b", "c", "d"}  # not the class without samples
    assert [name for name, _ in moved.by_lead()] == ["audio led", "visual led"]
    paths = dict(moved.paths())
    assert sum(paths.values()) == N and len(paths) == 8
    returned = moved.imbalanced[0] & ~moved.imbalanced[1] & moved.imbalanced[2]
    assert paths["imbalanced", "balanced", "imbalanced"] == returned.sum()


def test_the_fixed_mixture_moves_only_samples_whose_gap_changed(moved):
    first = moved.fits[0].scores
    half = np.arange(N) < N // 2
    other = scores(5, 0.05)
    changed = dataclasses.replace(
        first,
        p={m: np.where(half, other.p[m], first.p[m]) for m in first.p},
    )
    movement = movement_of(["before", "after"], [first, changed], "train", CONFIG)
    assert (movement.imbalanced[0] == movement.imbalanced[1])[~half].all()
    np.testing.assert_allclose(movement.fixed_posteriors[0], movement.fits[0].posterior)
    np.testing.assert_allclose(movement.fixed_posteriors[1], movement.fits[0].mixture.posterior(changed.gap))
    assert (movement.fits[1].posterior != movement.fixed_posteriors[1]).any()  # the refitted mixture differs
    same = movement_of(["before", "after"], [first, first], "train", CONFIG)
    assert same.since_first(1).recovered == same.since_first(1).worsened == 0
    assert same.since_first(1).p_value == 1.0


def test_movers_are_in_order_and_their_scores_add_up(moved):
    size = np.abs(moved.gaps)
    for before, after in (("imbalanced", "balanced"), ("balanced", "imbalanced")):
        rows = moved.movers(before, after)
        change = np.abs(size[2] - size[0])[rows]
        assert (np.diff(change) <= 0).all() and len(rows)
        means = moved.mean_scores(before, after)
        assert means[2] == pytest.approx(tuple(p[rows].mean() for p in moved.fits[2].scores.p.values()))
    stayed = moved.movers("imbalanced", "imbalanced")
    assert (np.diff(size[2][stayed]) <= 0).all()
    four = [moved.movers(b, a) for b in ("balanced", "imbalanced") for a in ("balanced", "imbalanced")]
    assert sorted(np.concatenate(four).tolist()) == list(range(N))


def test_ratios_with_denominator_zero():
    none = transition(np.zeros(5, dtype=bool), np.zeros(5, dtype=bool), CONFIG)
    assert none.interval(none.recovered, none.were_imbalanced) is None
    assert none.to_dict()["moves"][0]["share_of_before"] is None
    assert (none.change, none.change_interval.low, none.p_value) == (0, 0, 1)


def test_other_samples_are_refused(moved):
    first = moved.fits[0].scores
    other = dataclasses.replace(first, ids=[f"t{i}" for i in range(N)])
    with pytest.raises(UnfitError, match="b has other samples than a"):
        movement_of(["a", "b"], [first, other], "train", CONFIG)
