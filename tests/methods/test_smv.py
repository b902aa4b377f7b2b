"""SMV's values of samples, its copies of them and its step against the formula."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.epochs import PredictedEpoch
from helpers.program import TINY, assert_same_checkpoint, here, sets
from helpers.steps import CLASSES, SAMPLES, Exercise, exercise, gradients_of

from mgap_cli.data.loading.loader import Batch
from mgap_cli.errors import MgapError
from mgap_cli.methods.base import BudgetEpoch
from mgap_cli.model.inference import Predictions
from mgap_cli.training.trainer import Trainer

LATE = BudgetEpoch(6, 10)


def predicted(ex: Exercise, seed: int = 0) -> Predictions:
    draw = np.random.default_rng(seed)
    index = np.arange(SAMPLES)[::-1].copy()
    features = {m: draw.normal(size=(SAMPLES, 5)).astype(np.float32) for m in ex.network.encoders}
    return Predictions(index, draw.integers(CLASSES, size=SAMPLES), {}, features)


def worth(ex: Exercise, predictions: Predictions, sample: int, kept: Iterable[str]) -> int:
    """The number of modalities in a set if together they predict the class of a sample, else 0."""
    rows = {m: torch.from_numpy(f[sample : sample + 1]).double() for m, f in predictions.features.items()}
    kept = set(kept)
    z = ex.network.fuse({m: f if m in kept else 0 * f for m, f in rows.items()})
    return len(kept) if kept and int(z.argmax()) == predictions.labels[sample] else 0


def shapley(ex: Exercise, predictions: Predictions, sample: int) -> dict[str, float]:
    """The mean over all orders of the value that a modality adds."""
    names = list(predictions.features)
    orders = list(permutations(names))
    phi = dict.fromkeys(names, 0.0)
    for order in orders:
        for i, m in enumerate(order):
            gain = worth(ex, predictions, sample, order[: i + 1]) - worth(ex, predictions, sample, order[:i])
            phi[m] += gain / len(orders)
    return phi


@pytest.mark.parametrize("modalities", [2, 3])
def test_samples_repeat_as_their_values_say(modalities):
    ex = exercise("smv", modalities, seed=1)
    predictions = predicted(ex)
    before = {n: b.clone() for n, b in ex.network.named_buffers()}
    ex.method.on_epoch_start(PredictedEpoch(ex.network, predictions, LATE))
    names, seen = list(predictions.features), set()
    sums = dict.fromkeys(names, 0.0)
    for row, position in enumerate(predictions.index):
        phi = shapley(ex, predictions, row)
        for number, m in enumerate(names):
            sums[m] += phi[m]
            copies = max(0, round(2 * (1 - phi[m])))
            seen.add(copies)
            assert int(ex.method.repeats[position, number]) == copies, (position, m, phi)
    assert {0, 1, 2, 3} <= seen or modalities == 3
    means = {m: total / SAMPLES for m, total in sums.items()}
    assert ex.method.epoch_record(LATE)["contribution"] == pytest.approx(means, abs=1e-12)
    (group,) = ex.method.epoch_samples(np.arange(4, 12))
    times = 1 + ex.method.repeats.sum(dim=1).numpy()
    assert group.tolist() == [p for p in range(4, 12) for _ in range(times[p])]
    assert all(torch.equal(b, before[n]) for n, b in ex.network.named_buffers())


def test_no_sample_repeats_before_the_start():
    ex = exercise("smv", smv__start=0.7)
    ex.method.on_epoch_start(PredictedEpoch(ex.network, predicted(ex), LATE))
    (group,) = ex.method.epoch_samples(np.arange(SAMPLES))
    assert group.tolist() == list(range(SAMPLES))
    joint = exercise("joint")
    ex.step()
    joint.step()
    for a, b in zip(ex.network.parameters(), joint.network.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("fusion", "modalities"), [("concat", 2), ("gated", 2), ("sum", 3)])
def test_a_step_is_the_formula(fusion, modalities):
    """The first copy of a sample has all features; the copies of each modality follow in order."""
    ex = exercise("smv", modalities, seed=1, model__fusion=fusion)
    ex.method.on_epoch_start(PredictedEpoch(ex.network, predicted(ex), LATE))
    index = ex.batch.index.tolist()
    kept_rows: list[list[str]] = []  # the modalities that each row keeps
    copies = []
    for row, position in enumerate(index):
        repeats = ex.method.repeats[position].tolist()
        names = list(ex.network.encoders)
        plan = [names] + [[m] for m, n in zip(names, repeats, strict=True) for _ in range(n)]
        copies.append(row % len(plan))
        kept_rows.append(plan[copies[-1]])
    assert len({tuple(kept) for kept in kept_rows}) > 1
    batch = dataclasses.replace(ex.batch, copies=torch.tensor(copies))
    before = copy.deepcopy(ex.network)
    outputs = before.train()(batch.inputs)
    rows = {
        m: torch.stack([f[i] if m in kept else 0 * f[i] for i, kept in enumerate(kept_rows)])
        for m, f in outputs.features.items()
    }
    probes = sum(F.cross_entropy(z, batch.labels) for z in outputs.unimodal.values())
    loss = F.cross_entropy(before.fusion(rows), batch.labels) + probes
    gradients = gradients_of(loss, before)
    assert ex.step(batch=batch).loss.item() == pytest.approx(loss.item(), rel=1e-10)
    ex.assert_gradients(gradients)
    ex.assert_updated(gradients)


def test_it_resumes_beyond_the_steps_of_an_epoch_without_copies(store, tmp_path, monkeypatch):
    words = sets(*TINY, "smv.start=0", "runtime.save_every=1e-9")
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def line(run: Path) -> list[object]:
        return ["train", store, "--method", "smv", "-o", run, "--epochs", 2, *words]

    assert here(*line(whole)).code == 0
    plain = Trainer._train_step
    beyond: list[int] = []

    def train_step(trainer: Trainer, batch: Batch) -> None:
        if not beyond and trainer.epoch == 1 and trainer.step > trainer.plain_steps:
            beyond.append(trainer.step)
            raise MgapError("killed")
        plain(trainer, batch)

    monkeypatch.setattr(Trainer, "_train_step", train_step)
    assert here(*line(killed)).code == 1 and beyond
    assert here(*line(killed)).code == 0
    for part in (".model", ".loop.optimizers", ".history", ".selected"):
        assert_same_checkpoint(whole / "train-last.pt", killed / "train-last.pt", part)
