"""Remix's assignment of samples, its groups and its step against the formula."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.epochs import PredictedEpoch
from helpers.steps import CLASSES, ROWS, SAMPLES, Exercise, exercise, gradients_of

from mgap_cli.methods.base import BudgetEpoch
from mgap_cli.model.inference import Predictions

LATE = BudgetEpoch(6, 10)


def assign(ex: Exercise) -> list[int]:
    """Let the method assign half of the samples; return the modality of each, and -1 for the others."""
    draw = np.random.default_rng(0)
    index = np.arange(0, SAMPLES, 2)
    p = {m: draw.dirichlet(np.ones(CLASSES), size=len(index)) for m in ex.network.encoders}
    predictions = Predictions(index, np.zeros(len(index), dtype=np.int64), p)
    ex.method.on_epoch_start(PredictedEpoch(ex.network, predictions, LATE))
    entropy = np.stack([-(of * np.log(of)).sum(axis=1) for of in p.values()])
    expected = [-1] * SAMPLES
    for row, position in enumerate(index):
        expected[position] = int(entropy[:, row].argmax())
    return expected


@pytest.mark.parametrize("modalities", [2, 3])
def test_a_sample_is_assigned_to_the_modality_of_the_highest_entropy(modalities):
    ex = exercise("remix", modalities)
    expected = assign(ex)
    assert ex.method.assigned.tolist() == expected
    names = list(ex.network.encoders)
    counts = {m: expected.count(number) for number, m in enumerate(names)}
    assert ex.method.epoch_record(LATE) == {"assigned": counts}
    groups = ex.method.epoch_samples(np.arange(0, SAMPLES, 2))
    wanted = [[p for p in range(SAMPLES) if expected[p] == m] for m in reversed(range(modalities))]
    assert [group.tolist() for group in groups if len(group)] == [some for some in wanted if some]


def test_before_the_start_one_group_trains_all_heads():
    ex = exercise("remix", remix__start=0.7, remix__joint_weight=0.3)
    assert set(assign(ex)) > {-1} and set(ex.method.assigned.tolist()) == {-1}
    groups = [g for g in ex.method.epoch_samples(np.arange(SAMPLES)) if len(g)]
    assert [g.tolist() for g in groups] == [list(range(SAMPLES))]
    outputs = ex.before.train()(ex.batch.inputs)
    unimodal = sum(F.cross_entropy(z, ex.batch.labels) for z in outputs.unimodal.values())
    loss = F.cross_entropy(outputs.fused, ex.batch.labels) + 0.3 * unimodal
    check(ex, ex.batch, loss)


@pytest.mark.parametrize(("fusion", "modalities"), [("concat", 2), ("film", 2), ("sum", 3)])
def test_a_step_of_one_modality_is_the_formula(fusion, modalities):
    for number in range(modalities):
        ex = exercise("remix", modalities, model__fusion=fusion, remix__own_weight=0.7)
        expected = assign(ex)
        mine = [p for p in range(SAMPLES) if expected[p] == number]
        batch = dataclasses.replace(ex.batch, index=torch.tensor((mine * ROWS)[:ROWS]))
        outputs, m = ex.before.train()(batch.inputs), list(ex.network.encoders)[number]
        fused = ex.before.fusion({n: f if n == m else 0 * f for n, f in outputs.features.items()})
        loss = F.cross_entropy(outputs.unimodal[m], batch.labels)
        check(ex, batch, F.cross_entropy(fused, batch.labels) + 0.7 * loss)


def check(ex: Exercise, batch: object, loss: torch.Tensor) -> None:
    gradients = gradients_of(loss, ex.before)
    assert ex.step(batch=batch).loss.item() == pytest.approx(loss.item(), rel=1e-10)
    ex.assert_gradients(gradients)
    ex.assert_updated(gradients)
