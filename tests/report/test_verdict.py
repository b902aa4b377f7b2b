"""The sentences about an evaluation, compared with numbers that are computed in another way."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from helpers.judgements import CONFIG, judgement

from mgap_cli.config import Config
from mgap_cli.evaluation.evaluate import Judgement
from mgap_cli.evaluation.metrics import summarise
from mgap_cli.evaluation.seeds import compare_checkpoints, grouped, over_seeds
from mgap_cli.gap.scores import Scores
from mgap_cli.report.verdict import verdict

N = 100
LABELS = np.arange(N) % 2


def judged(
    name: str,
    stage: str,
    right: int,
    p: Mapping[str, float],
    digest: str = "",
    parent: str = "",
    epochs: int = 4,
    posterior: float = 0.0,
) -> Judgement:
    """A checkpoint whose heads classify the first `right` of 100 samples of two classes correctly."""
    guess = np.where(np.arange(N) < right, LABELS, 1 - LABELS)
    one_hot = np.eye(2)[guess]
    ids = [str(i) for i in range(N)]
    spread = np.linspace(-0.02, 0.02, N)
    scores = Scores(ids, ("a", "b"), LABELS, {m: value + spread * (m == "audio") for m, value in p.items()})
    evaluation = summarise(
        ids, LABELS, ("a", "b"), dict.fromkeys(("fused", *p), one_hot), scores, config=CONFIG, name=name,
        split="test", stage=stage, method="joint-heads", seed="0", posterior=np.full(N, posterior),
    )  # fmt: skip
    config = Config().updated({"train.epochs": epochs, "warmup.epochs": 2}, "test")
    return Judgement(
        Path(f"{name}.pt"), config, evaluation, [], [], digest=digest or name, parent_digest=parent
    )


def said(*judgements: Judgement) -> list[str]:
    evaluations = [j.evaluation for j in judgements]
    groups, _ = grouped(evaluations, [j.config for j in judgements])
    comparisons = compare_checkpoints(groups, evaluations, CONFIG)
    return verdict(judgements, comparisons, groups, over_seeds(groups, evaluations), CONFIG)


BASELINE = judged("baseline/train", "train", 70, {"audio": 0.6, "visual": 0.5})
WARM = judged("run/warmup", "warmup", 60, {"audio": 0.7, "visual": 0.4}, "warm")


def test_a_gap_that_became_larger_is_the_first_sentence():
    adapt = judged("run/adapt", "adapt", 72, {"audio": 0.8, "visual": 0.3}, parent="warm", posterior=0.9)
    gap, accuracy, heads = said(BASELINE, WARM, adapt)
    assert gap.startswith("adapt made the modality gap larger (from run/warmup to run/adapt): ")
    assert "mean |gap| 0.300 to 0.500 on test, change +0.200" in gap
    assert "imbalanced samples 0.0% to 100.0%" in gap
    assert "the lagging modality (visual) fell from 0.400 to 0.300" in gap
    assert "the leading modality (audio) rose from 0.700 to 0.800" in gap
    assert "72.0% for run/adapt, 70.0% for baseline/train (joint-heads)" in accuracy
    # Two samples that only one classifies correctly: McNemar's exact p is 2 * (1/2)^2, the larger of two.
    assert "cannot be told apart: +2.0 points" in accuracy and "p 0.500, after Holm's correction" in accuracy
    assert heads.startswith("Heads of run/adapt: fused (72.0%), audio (72.0%) and visual (72.0%) are above")


def test_a_gap_that_became_smaller_comes_after_the_accuracy():
    adapt = judged("run/adapt", "adapt", 95, {"audio": 0.7, "visual": 0.6}, parent="warm")
    accuracy, gap, _ = said(BASELINE, WARM, adapt)
    assert "run/adapt is better: +25.0 points" in accuracy
    assert gap.startswith("adapt made the modality gap smaller") and "0.300 to 0.100" in gap
    assert "(visual) rose from 0.400 to 0.600, the leading modality (audio) stayed at 0.700" in gap
    worse, _, _ = said(adapt, WARM, dataclasses.replace(BASELINE, parent_digest=""))
    assert "run/adapt is better: -25.0 points" in worse


def test_the_same_gap_counts_as_no_change():
    adapt = judged("run/adapt", "adapt", 70, {"audio": 0.75, "visual": 0.45}, parent="warm")
    accuracy, gap, _ = said(BASELINE, WARM, adapt)
    assert "cannot be told apart" in accuracy
    assert gap.startswith("adapt did not change the modality gap measurably")


def test_without_the_warm_up_the_gap_is_compared_with_the_first():
    adapt = judged("run/adapt", "adapt", 70, {"audio": 0.9, "visual": 0.1}, parent="elsewhere")
    gap, _, _ = said(BASELINE, adapt)
    assert gap.startswith(
        "The gap of run/adapt is larger than that of baseline/train: mean |gap| 0.100 to 0.8"
    )


def test_different_budgets_are_named():
    longer = judged("run/adapt", "adapt", 70, {"audio": 0.6, "visual": 0.5}, parent="warm", epochs=9)
    assert "The budgets differ: 9 epochs for run/adapt, 4 for baseline/train." in said(BASELINE, longer)[-1]
    assert "2 epochs for run/warmup, 4 for baseline/train." in said(BASELINE, WARM)[-1]
    same = judged("run/adapt", "adapt", 70, {"audio": 0.6, "visual": 0.5}, parent="warm")
    assert not any("budgets" in sentence for sentence in said(BASELINE, same))


def test_one_checkpoint_and_a_head_at_chance():
    accuracy, heads = said(judged("run/train", "train", 50, {"audio": 0.5, "visual": 0.5}))
    assert accuracy.startswith("Accuracy on test (n = 100), fused head: 50.0% for run/train (95 % interval ")
    assert "fused (50.0%), audio (50.0%) and visual (50.0%) are not measurably above chance" in heads
    assert "50.0%)." in heads  # the most frequent class has half of the samples


def test_a_model_of_one_modality_has_no_gap():
    alone = judgement(heads=("audio",), name="run/train", stage="train", method="unimodal")
    accuracy, heads = said(alone)
    assert "audio head" in accuracy and heads.startswith("Heads of run/train: audio (")


@pytest.mark.parametrize("gain", [0.0, 2.0])
def test_several_seeds_are_taken_together(gain):
    first = [judgement(seed, "joint-heads", "train") for seed in range(6)]
    second = [judgement(50 + seed, "adaptive", "adapt", 1 + gain) for seed in range(6)]
    renamed = [
        dataclasses.replace(j, evaluation=dataclasses.replace(j.evaluation, seed=str(i)))
        for i, j in enumerate(second)
    ]
    accuracy, *rest = said(*first, *renamed)
    values = [j.evaluation.heads["fused"].accuracy for j in second]
    assert (
        f"6 seeds: {np.mean(values):.1%} ± {100 * np.std(values, ddof=1):.1f} for adapt adaptive" in accuracy
    )
    assert ("adapt adaptive is better" in accuracy) == bool(gain)
    assert ("cannot be told apart" in accuracy) != bool(gain)
    assert rest == []
