"""The table of decision rules of several checkpoints, of which some have one head."""

from __future__ import annotations

import dataclasses

import numpy as np
from helpers.judgements import CONFIG, judgement
from helpers.screen import printed

from mgap_cli.evaluation import seeds
from mgap_cli.evaluation.rule_table import Scored, rule_table
from mgap_cli.report.tables.decision_rules import rules_table


def with_rules(seed: int, name: str):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 4, 100)
    p = {h: draw.dirichlet(np.ones(4), 100) + np.eye(4)[labels] * 0.2 for h in ("fused", "audio", "visual")}
    samples = Scored.of({h: q / q.sum(axis=1, keepdims=True) for h, q in p.items()}, labels)
    table = rule_table(samples, samples, "test", CONFIG)
    return dataclasses.replace(judgement(seed, name=name), rules=table)


def table_text(judged):
    groups, _ = seeds.grouped([j.evaluation for j in judged], [j.config for j in judged])
    table = rules_table(judged, groups)
    return table and printed(table, 80)


def test_numbers_are_those_of_the_other_tables():
    alone = judgement(0, "unimodal", "train", heads=("audio",), name="one/train")
    text = table_text([alone, with_rules(1, "two/adapt")])
    assert text.splitlines()[1].split() == ["rule", "2"]
    assert "2: two/adapt." in text and "one/train" not in text


def test_there_is_no_table_without_several_heads():
    assert table_text([judgement(0, "unimodal", "train", heads=("audio",))]) is None
    assert table_text([judgement(s, "unimodal", "train", heads=("audio",)) for s in (0, 1)]) is None


def test_seeds_are_averaged_and_a_star_is_shown_for_each_choice():
    judged = [with_rules(seed, f"run{seed}/adapt") for seed in (0, 1, 2)]
    text = table_text(judged)
    fused = np.mean([j.rules.rows[0].accuracy for j in judged])
    assert f"{100 * fused:.1f}" in text and "mean of 3 seeds" in text
    assert text.partition("Accuracy in %")[0].count("*") == 3
