"""Tables of 1, 2, 8 and 20 evaluations: within their width, with complete numbers and exact names."""

from __future__ import annotations

import re

import pytest
from helpers.judgements import CONFIG, judgement
from helpers.screen import numbers, printed
from rich.cells import cell_len
from rich.console import RenderableType

from mgap_cli.evaluation import seeds
from mgap_cli.evaluation.evaluate import Judgement
from mgap_cli.evaluation.metrics import compare
from mgap_cli.report.tables import evaluation as tables

ALONE = [judgement()]
TWO = [judgement(0), judgement(3, "joint", "warmup")]
MIXED = [
    judgement(
        i,
        name=f"runs/m{i}/adapt",
        sets={"adaptive.beta": i},
        heads=("audio",) if i == 3 else ("fused", "audio", "visual"),
    )
    for i in range(8)
]
SEEDS = [
    judgement(s, o, st, skill=1 + s / 5, sets=x)
    for o, st, x in (
        *(("joint", "warmup", {}), ("joint-heads", "warmup", {}), ("ogm-ge", "warmup", {})),
        *(("adaptive", "adapt", {"adaptive.lambda_gap": 2}), ("adaptive", "adapt", {})),
    )
    for s in range(4)
]  # fmt: skip


def all_tables(judged: list[Judgement]) -> list[RenderableType]:
    evaluations = [j.evaluation for j in judged]
    groups, _ = seeds.grouped(evaluations, [j.config for j in judged])
    comparisons = seeds.compare_checkpoints(groups, evaluations, CONFIG)
    rendered = [tables.evaluation_table(evaluations), tables.calibration_table(evaluations)]
    if seeds.several_seeds(groups):
        rendered.append(tables.group_table(groups, evaluations))
        rendered.append(tables.seed_comparison_table(seeds.over_seeds(groups, evaluations), groups, 0.95))
    if comparisons:
        rendered.append(tables.comparison_table(comparisons, evaluations))
    return [
        *rendered,
        tables.per_class_table(judged, groups),
        tables.by_table(judged, groups, 0),
        tables.robustness_table(judged, groups),
    ]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize("judged", [ALONE, TWO, MIXED, SEEDS], ids=["1", "2", "8", "20"])
def test_layout(judged: list[Judgement], width: int, encoding: str):
    for one in all_tables(judged):
        wide, text = printed(one, 1000), printed(one, width, encoding)
        assert max(map(cell_len, text.splitlines())) <= width, text
        assert numbers(text) >= numbers(wide), text
        assert "nan" not in text.lower().split()


def test_many_checkpoints_have_one_line_each():
    text = printed(tables.evaluation_table([j.evaluation for j in SEEDS]))
    assert len(text.splitlines()) < 20 + 10
    comparisons = [compare(SEEDS[0].evaluation, j.evaluation, CONFIG) for j in SEEDS[1:]]
    assert len(printed(tables.comparison_table(comparisons, [j.evaluation for j in SEEDS])).splitlines()) < 30


def test_names_are_never_markup():
    for one in all_tables(ALONE):
        text = printed(one, 300)
        assert "green" not in text or "[green]a-long" in text
    assert "[red]x[/red]" in printed(tables.per_class_table(ALONE, []))
    assert "[bold]speaker 3" in printed(tables.by_table(ALONE, [], 0), 200)


def test_evaluation_shows_value_and_interval():
    (e,) = (j.evaluation for j in ALONE)
    text = printed(tables.evaluation_table([e]), 120)
    more = printed(tables.calibration_table([e]), 120)
    for head in e.heads.values():
        assert f" {100 * head.accuracy:.1f} " in text
        assert f"{100 * head.accuracy_interval.low:.1f}-{100 * head.accuracy_interval.high:.1f}" in text
        assert f"{100 * head.reliability.ece:.1f}" in more and f"{100 * head.top_k.accuracy:.1f}" in more
        assert f"{100 * head.ece_interval.low:.1f}-{100 * head.ece_interval.high:.1f}" in more
    fused, classes = e.heads["fused"], printed(tables.per_class_table(ALONE, []), 120)
    for interval, where in (
        (fused.mean_average_precision_interval, text),
        *((interval, classes) for interval in fused.per_class_interval if interval),
    ):
        assert f"{100 * interval.low:.1f}-{100 * interval.high:.1f}" in where
    assert "test, n = 200" in text and "top-5" in more
    assert "Classes without samples, left out of mAP: empty." in text


def test_top_k_has_no_column_with_few_classes():
    e = judgement(classes=("a", "b", "c")).evaluation
    assert "top" not in printed(tables.calibration_table([e]), 120)


def test_comparison_says_which_test_and_which_correction():
    a, b = (j.evaluation for j in TWO)
    c = compare(a, b, CONFIG)
    text = printed(tables.comparison_table([c], [a, b]), 120)
    assert f"{100 * c.difference:+.1f}" in text and "Holm" not in text
    same = printed(tables.comparison_table([compare(a, a, CONFIG)] * 2, [a, a]), 120)
    assert "1.000*" in same and "Holm: McNemar's p corrected for 2 comparisons" in same
    assert "1.000*" not in text


def test_groups_state_what_few_seeds_cannot_show():
    evaluations = [j.evaluation for j in SEEDS]
    groups, _ = seeds.grouped(evaluations, [j.config for j in SEEDS])
    text = printed(tables.seed_comparison_table(seeds.over_seeds(groups, evaluations), groups, 0.95), 200)
    assert text.count(" 0.125\n") == 4  # the smallest p of four seeds
    assert "that needs 6 seeds" in text and "Holm: corrected for 4 comparisons" in text
    spread = seeds.spreads(groups[0], evaluations)["fused.accuracy"]
    table = printed(tables.group_table(groups, evaluations), 120)
    assert f"{100 * spread.mean:.1f}" in table and f"±{100 * spread.sd:.1f}" in table


def test_one_seed_has_no_deviation_and_says_so():
    judged = [*SEEDS[:4], judgement(9, "ogm")]
    evaluations = [j.evaluation for j in judged]
    groups, _ = seeds.grouped(evaluations, [j.config for j in judged])
    assert "One seed, so no standard deviation: adapt ogm." in printed(
        tables.group_table(groups, evaluations), 120
    )
    none = printed(tables.seed_comparison_table(seeds.over_seeds(groups, evaluations), groups, 0.95), 120)
    assert "No seed and head in common with warmup joint: adapt ogm." in none


def test_groups_of_samples_come_least_accurate_first_and_long_lists_are_cut():
    text = printed(tables.by_table(ALONE, [], 0), 120)
    accuracies = [float(m[1]) for m in re.finditer(r"speaker \d+ +8 +(\d+\.\d) ", text)]
    assert accuracies == sorted(accuracies) and len(accuracies) == 20
    assert "... 5 between" in text


def test_robustness_shows_the_change_from_clean():
    text = printed(tables.robustness_table(ALONE, []), 120)
    clean, first = (m.accuracy["fused"] for m in ALONE[0].robustness[:2])
    assert f"{100 * (first - clean):+.1f}" in text
    for words in ("20 dB", "sd 0.05", "75 %", "zeros", "mean"):
        assert words in text
