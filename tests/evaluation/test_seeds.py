"""The groups of checkpoints by method and seed, and which of them are compared."""

from __future__ import annotations

import dataclasses
import json
import statistics

import pytest
from helpers.judgements import CONFIG, judgement
from scipy import stats

from mgap_cli.evaluation import seeds
from mgap_cli.report.documents import evaluation_document


def grouped(judged):
    return seeds.grouped([j.evaluation for j in judged], [j.config for j in judged])


def evaluations(judged):
    return [j.evaluation for j in judged]


JOINT = [judgement(seed, "joint", "warmup", skill=0.5) for seed in range(4)]
ADAPT = [judgement(seed, "adaptive", "adapt", skill=1.5) for seed in range(1, 5)]


def test_groups_are_stage_method_and_settings_over_seeds():
    judged = [*JOINT[:2], *ADAPT[:2], JOINT[2], judgement(0, sets={"adaptive.beta": 3.0}), JOINT[3]]
    groups, warnings = grouped(judged)
    assert [g.name for g in groups] == [
        "warmup joint",
        "adapt adaptive adaptive.beta=1.0",
        "adapt adaptive adaptive.beta=3.0",
    ]
    assert [g.members for g in groups] == [{"0": 0, "1": 1, "2": 4, "3": 6}, {"1": 2, "2": 3}, {"0": 5}]
    assert warnings == []
    assert seeds.several_seeds(groups) and not seeds.several_seeds(grouped([JOINT[0], ADAPT[0]])[0])


def test_settings_that_cannot_change_the_weights_do_not_separate_runs():
    judged = [
        judgement(0, "joint", "warmup", sets={"adaptive.beta": 2.0, "evaluate.bins": 9}),
        judgement(1, "joint", "warmup", sets={"runtime.eval_batch_size": 3}),
    ]
    (group,), _ = grouped(judged)
    assert group.members == {"0": 0, "1": 1} and group.settings == {}


def test_a_repeated_seed_counts_once_with_a_warning():
    copy = dataclasses.replace(
        JOINT[0], evaluation=dataclasses.replace(JOINT[0].evaluation, name="copy/warmup")
    )
    (group,), warnings = grouped([JOINT[0], JOINT[1], JOINT[0], copy])
    assert group.members == {"0": 0, "1": 1}
    assert "given twice" in warnings[0] and "counts once" in warnings[0]
    assert "copy/warmup has the same settings and seed as" in warnings[1]


def test_spread_is_mean_and_sample_standard_deviation():
    (group,), _ = grouped(JOINT)
    spreads = seeds.spreads(group, evaluations(JOINT))
    accuracies = [j.evaluation.heads["fused"].accuracy for j in JOINT]
    assert spreads["fused.accuracy"].mean == pytest.approx(statistics.mean(accuracies))
    assert spreads["fused.accuracy"].sd == pytest.approx(stats.tstd(accuracies))
    assert spreads["visual.ece"].mean == pytest.approx(
        statistics.mean(j.evaluation.heads["visual"].reliability.ece for j in JOINT)
    )
    assert seeds.Spread.of([0.5]) == seeds.Spread(0.5, None)


def test_methods_are_compared_over_the_seeds_that_both_have():
    judged = [*JOINT, *ADAPT]
    groups, _ = grouped(judged)
    (c,) = seeds.over_seeds(groups, evaluations(judged))
    assert c.seeds == ("1", "2", "3") and (c.a, c.b) == ("warmup joint", "adapt adaptive")
    for i, difference in enumerate(c.differences, start=1):
        expected = (
            ADAPT[i - 1].evaluation.heads["fused"].accuracy - JOINT[i].evaluation.heads["fused"].accuracy
        )
        assert difference == pytest.approx(expected)
    assert c.p_value == c.smallest_p == 0.25  # all three agree, and three seeds can give no smaller p-value
    pairs = seeds.compare_checkpoints(groups, evaluations(judged), CONFIG)
    assert [(p.a.split("seed")[1], p.b.split("seed")[1]) for p in pairs] == [
        (f"{s}/warmup", f"{s}/adapt") for s in (1, 2, 3)
    ]
    assert all(p.test.p_value <= p.adjusted <= 1 for p in pairs)
    assert max(p.adjusted for p in pairs) <= 3 * max(p.test.p_value for p in pairs)


def test_without_seeds_each_is_compared_with_the_first():
    judged = [JOINT[0], ADAPT[0], judgement(5, "ogm")]
    groups, _ = grouped(judged)
    pairs = seeds.compare_checkpoints(groups, evaluations(judged), CONFIG)
    assert [p.b for p in pairs] == [j.evaluation.name for j in judged[1:]]
    assert {p.a for p in pairs} == {JOINT[0].evaluation.name}


def test_no_seed_in_common_and_no_fused_head():
    audio = judgement(1, "unimodal", "warmup", heads=("audio",), sets={"unimodal.modality": "audio"})
    judged = [*JOINT[:2], *ADAPT[1:3], audio]
    groups, _ = grouped(judged)
    (c,) = seeds.over_seeds(groups, evaluations(judged))
    assert c.b == "warmup unimodal" and c.head == "audio"
    assert c.p_value == 1.0 and c.spread.sd is None
    only = [
        judgement(s, "unimodal", "warmup", heads=(m,), sets={"unimodal.modality": m})
        for m in ("audio", "visual")
        for s in (0, 1)
    ]
    groups, _ = grouped(only)
    assert [g.name for g in groups] == [f"warmup unimodal unimodal.modality={m}" for m in ("audio", "visual")]
    assert seeds.over_seeds(groups, evaluations(only)) == []
    assert seeds.compare_checkpoints(groups, evaluations(only), CONFIG) == []


def test_one_group_has_nothing_to_be_compared_with():
    groups, _ = grouped(JOINT)
    assert seeds.over_seeds(groups, evaluations(JOINT)) == []
    assert seeds.compare_checkpoints(groups, evaluations(JOINT), CONFIG) == []


def test_document_is_plain_json():
    judged = [*JOINT, *ADAPT]
    groups, _ = grouped(judged)
    comparisons = seeds.compare_checkpoints(groups, evaluations(judged), CONFIG)
    document = evaluation_document(judged, comparisons, groups, seeds.over_seeds(groups, evaluations(judged)))
    again = json.loads(json.dumps(document, allow_nan=False))
    assert again["schema"] == "mgap.evaluate/3" and "Holm" in again["correction"]
    assert again["groups"][0]["figures"]["fused.accuracy"].keys() == {"mean", "sd"}
    assert list(again["groups"][1]["checkpoints"]) == ["1", "2", "3", "4"]
    assert again["group_comparisons"][0]["smallest_attainable_p"] == 0.25
    first = again["evaluations"][0]
    assert first["by"][0]["column"] == "group" and len(first["by"][0]["groups"]) == 25
    assert first["robustness"][0]["corruption"] == "clean"
