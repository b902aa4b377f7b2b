"""The table of decision rules: differences, tests, choices, and the sentence about them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mgap_cli.config import EvaluateConfig
from mgap_cli.errors import UnfitError
from mgap_cli.evaluation.decision_rules import load_rule
from mgap_cli.evaluation.rule_table import Scored, decide, fitted_decision, rule_table

CONFIG = EvaluateConfig(bootstrap=200)


def scored(n=300, seed=0, **skills):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 4, n)
    p = {}
    for head, skill in skills.items():
        z = np.exp(draw.normal(size=(n, 4)) + skill * np.eye(4)[labels])
        p[head] = z / z.sum(axis=1, keepdims=True)
    return Scored.of(p, labels)


WEAK_FUSION = {"fused": 0.5, "audio": 3.0, "visual": 0.8}
TEST, VAL = scored(seed=0, **WEAK_FUSION), scored(n=80, seed=1, **WEAK_FUSION)
TABLE = rule_table(TEST, VAL, "test", CONFIG)


def row(name):
    return next(r for r in TABLE.rows if r.text == name)


def test_rows_are_those_of_the_rules_fitted_on_validation():
    fused = TEST.heads["fused"].argmax(axis=1) == TEST.labels
    for r in TABLE.rows:
        if r.is_head:
            p = np.exp(TEST.heads[r.name])
        else:
            p = load_rule(r.name).fit(VAL.heads, VAL.labels).combine(TEST.heads)
        right = p.argmax(axis=1) == TEST.labels
        assert r.accuracy == right.mean() and r.difference == pytest.approx(right.mean() - fused.mean())
        only_fused, only_rule = (fused & ~right).sum(), (right & ~fused).sum()
        assert (r.test.only_a, r.test.only_b) == (only_fused, only_rule)
        if 0 < only_fused + only_rule < 25:
            exact = stats.binomtest(int(only_fused), int(only_fused + only_rule)).pvalue
            assert r.test.p_value == pytest.approx(exact)
        low, high = r.difference_interval.to_list()
        assert low <= r.difference <= high


def test_a_single_modality_that_beats_the_fused_head_is_named():
    assert row("audio alone").adjusted < 0.001
    assert "audio alone" in TABLE.sentence and "the fused head is not the best decision" in TABLE.sentence
    best = max(TABLE.rows, key=lambda r: r.difference)
    assert f"{100 * best.difference:+.1f} points" in TABLE.sentence


def test_nothing_is_said_where_the_fused_head_is_as_good():
    strong = {"fused": 4.0, "audio": 0.5, "visual": 0.5}
    table = rule_table(scored(**strong), scored(n=80, seed=1, **strong), "test", CONFIG)
    assert table.sentence == "" and table.better == []


def test_one_head_makes_no_table():
    assert rule_table(scored(audio=1.0), None, "test", CONFIG) is None


def test_without_validation_only_rules_that_learn_nothing_are_shown():
    table = rule_table(TEST, None, "test", CONFIG)
    assert table.chosen is None and all(r.validation is None for r in table.rows)
    assert [r.name for r in table.rows if not r.is_head] == [
        "fused",
        "entropy",
        "mean",
        "mean-all",
        "product",
    ]
    assert fitted_decision("mean", None, "x.pt").name == "mean"
    for name in ("best", "auto"):
        with pytest.raises(UnfitError, match=f"x.pt: its store has no validation samples, and --rule {name}"):
            fitted_decision(name, None, "x.pt")


def test_auto_decides_with_the_rule_that_is_best_on_validation_in_the_table():
    decision = fitted_decision("auto", VAL, "x.pt")
    assert decision.name == TABLE.chosen
    expected = load_rule(TABLE.chosen).fit(VAL.heads, VAL.labels).combine(TEST.heads)
    np.testing.assert_array_equal(decide(decision, TEST, False), expected)
    assert decision.to_dict()["asked"] == "auto" and decision.to_dict()["name"] == TABLE.chosen


def test_on_validation_a_fitted_decision_is_cross_fitted():
    decision = fitted_decision("stacked", VAL, "x.pt")
    crossed, in_sample = decide(decision, VAL, True), decide(decision, VAL, False)
    assert not np.allclose(crossed, in_sample)
    on_itself = rule_table(VAL, VAL, "val", CONFIG)
    assert all(r.accuracy == pytest.approx(r.validation) for r in on_itself.rows)
