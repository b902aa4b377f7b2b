"""D&R's purity, shares and soft resets against the formula."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.program import TINY, metrics, mgap, sets
from helpers.steps import CLASSES, TOLERANCE, exercise, gradients_of

from mgap_cli.methods.relearning import purity
from mgap_cli.model.inference import Predictions

STRENGTH = 2.0
# Numbers of samples by cluster (rows) and class (columns): k-means finds the distant clusters.
PURE = np.diag([3, 2, 4, 1])
MIXED = np.array([[3, 2, 0, 0], [1, 1, 1, 1], [0, 0, 5, 0], [0, 2, 0, 4]])


def placed(table: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features (N, 3) and labels (N,), in their order, of a table of counts."""
    draw = np.random.default_rng(seed)
    label, centre = (np.repeat(index.ravel(), table.T.ravel()) for index in np.indices(table.shape))
    centres = 100.0 * np.array([[0, 0, 0], [0, 1, 0], [1, 0, 1], [1, 1, 1]])
    return centres[centre] + draw.normal(size=(len(centre), 3)), label


@dataclass
class Start:
    """The start of an epoch at which each modality's features have these tables, by split."""

    epoch: int
    tables: dict[str, list[np.ndarray]]

    def predictions(self, split: str = "train") -> Predictions:
        made = {f"m{i}": placed(table, i) for i, table in enumerate(self.tables[split])}
        labels = made["m0"][1]
        assert all((label == labels).all() for _, label in made.values())
        return Predictions(np.arange(len(labels)), labels, {}, {m: f for m, (f, _) in made.items()})


@pytest.mark.parametrize("table", [PURE, MIXED, MIXED.T])
def test_purity_is_the_share_of_the_largest_class_of_each_cluster(table):
    features, labels = placed(table, 0)
    assert purity(features, labels, CLASSES) == pytest.approx(
        table.max(axis=1).sum() / table.sum(), rel=1e-12
    )
    stretched = features * np.array([1e-3, 1, 1e3])
    assert purity(stretched, labels, CLASSES) == purity(features, labels, CLASSES)


def test_purity_of_constant_features_and_of_few_samples():
    assert purity(np.zeros((6, 2)), np.array([0, 0, 0, 1, 2, 2]), CLASSES) == 0.5
    assert purity(np.arange(6.0).reshape(2, 3), np.array([1, 0]), CLASSES) == 1.0


def swapped(table: np.ndarray) -> np.ndarray:
    """The same number of samples of each class, all in other clusters."""
    return np.roll(table, 1, axis=0)


def test_steps_are_the_formula():
    ex = exercise("relearning", 2, relearning__strength=STRENGTH, relearning__every=2, relearning__times=1)
    initial = copy.deepcopy(ex.before)
    other = np.array([[3, 0, 0, 0], [0, 4, 0, 0], [1, 0, 6, 2], [0, 1, 0, 3]])  # the classes' sizes of MIXED
    assert (other.sum(axis=0) == MIXED.sum(axis=0)).all()
    tables = {"train": [PURE, swapped(PURE)], "val": [MIXED, other]}
    purities = [[t.max(axis=1).sum() / t.sum() for t in tables[split]] for split in ("train", "val")]
    shares = [math.tanh(STRENGTH * abs(p - q)) for p, q in zip(*purities, strict=True)]
    assert 0 < shares[1] < shares[0] < 1
    for epoch in range(5):
        lines = ex.method.on_epoch_start(Start(epoch, tables))
        moves = epoch == 2  # after two epochs, once
        assert len(lines) == (2 if moves else 0)
        for number in range(2):
            ex.before.load_state_dict(ex.network.state_dict())
            ex.before.train()
            if moves and number == 0:
                for share, m in zip(shares, ex.before.encoders, strict=True):
                    old = dict(initial.encoders[m].named_parameters())
                    for name, parameter in ex.before.encoders[m].named_parameters():
                        parameter.data.mul_(1 - share).add_(share * old[name].data)
            outputs = ex.before(ex.batch.inputs)
            loss = sum(F.cross_entropy(z, ex.batch.labels) for z in outputs.logits.values())
            torch.testing.assert_close(ex.step(epoch, progress=number / 2).loss, loss.detach(), **TOLERANCE)
            ex.assert_gradients(gradients_of(loss, ex.before))
            ex.assert_updated(gradients_of(loss, ex.before))
        moved = ex.method.epoch_record(None)["moved_back"]
        assert moved == (pytest.approx(dict(zip(("m0", "m1"), shares, strict=True))) if moves else None)


def test_the_program_moves_encoders_back_and_logs_it(store, tmp_path):
    run = tmp_path / "run"
    settings = sets(*TINY, "relearning.every=1", "relearning.times=2", "train.epochs=4")
    done = mgap("train", store, "--method", "relearning", "-o", run, *settings)
    words = " ".join(done.err.split())  # the log breaks long lines
    assert done.code == 0 and words.count("way back to its initial weights") == 4
    moved = [entry["moved_back"] for entry in metrics(run, "train")]
    assert moved[0] is None and moved[3] is None
    assert all(0 <= share < 1 for entry in moved[1:3] if entry for share in entry.values())
