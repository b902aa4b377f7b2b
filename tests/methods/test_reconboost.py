"""ReconBoost's turns and corrections against the formula, over two rounds."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from helpers.program import TINY, metrics, mgap, sets
from helpers.steps import BUDGET, CLASSES, TOLERANCE, exercise, gradients_of, image_exercise

from mgap_cli.errors import UsageError
from mgap_cli.methods.base import BudgetEpoch

W1, W2 = 3.0, 1.5
CHANGES = {"reconboost.w1": W1, "reconboost.w2": W2, "reconboost.epochs": 2, "reconboost.correction": 1}


def reference(network, batch, turn):
    """The loss of the docstring by a loop over samples; if `turn` is None, the loss of the correction."""
    z = network(batch.inputs).unimodal
    beta = network.fusion.scale
    if turn is None:
        return F.cross_entropy(beta * sum(z.values()), batch.labels)
    parts = []
    for i, y in enumerate(batch.labels.tolist()):
        others = [sum(z[n][i, c].item() for n in z if n != turn) for c in range(CLASSES)]
        others = [math.exp(beta.item() * logit) for logit in others]
        q = others[y] / sum(others)
        log_p = z[turn][i, y] - z[turn][i].exp().sum().log()
        parts.append(-(W1 - W2 * q) * log_p / CLASSES)
    return sum(parts) / len(parts)


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("unimodal", ["heads", "shared"])
def test_steps_of_every_turn_are_the_formula(modalities, unimodal):
    ex = exercise("reconboost", modalities, model__unimodal=unimodal, **CHANGES)
    turns = []
    for epoch in range(3 * modalities + 3):
        turn = ex.method.epoch_record(BudgetEpoch(epoch, BUDGET))["turn"]
        turns.append(turn)
        ex.before.load_state_dict(ex.network.state_dict())
        ex.engine.task.train()
        ex.before.train()
        for m, encoder in ex.before.encoders.items():
            encoder.train(turn in (None, m))
        loss = reference(ex.before, ex.batch, turn)
        expected = gradients_of(loss, ex.before)
        if turn is not None:
            head = "heads.shared." if unimodal == "shared" else f"heads.{turn}."
            assert expected and all(n.startswith((f"encoders.{turn}.", head)) for n in expected)
        torch.testing.assert_close(ex.step(epoch).loss, loss.detach(), **TOLERANCE)
        ex.assert_gradients(expected)
        ex.assert_updated(expected)
    names = list(ex.network.encoders)
    assert turns == [t for m in [*names, names[0]] for t in (m, m, None)]


def test_the_others_are_fixed_with_their_batch_norm():
    ex = image_exercise("reconboost")
    ex.step(0)
    visual = ex.before.encoders.visual.state_dict()
    assert all(torch.equal(v, visual[k]) for k, v in ex.network.encoders.visual.state_dict().items())
    audio = ex.before.encoders.audio.state_dict()
    assert not all(torch.equal(v, audio[k]) for k, v in ex.network.encoders.audio.state_dict().items())


def test_another_fusion_is_refused():
    with pytest.raises(UsageError, match=r"reconboost needs model\.fusion=late-scaled, and it is film"):
        exercise("reconboost", model__fusion="film")


def test_the_program_records_each_epochs_turn_and_evaluates_the_result(store, tmp_path):
    run = tmp_path / "run"
    short = sets(*TINY, "reconboost.epochs=1", "reconboost.correction=1", "train.epochs=4")
    assert mgap("train", store, "--method", "reconboost", "-o", run, *short).code == 0
    assert [entry["turn"] for entry in metrics(run, "train")] == ["audio", None, "visual", None]
    assert mgap("evaluate", run / "train.pt", *sets("evaluate.bootstrap=50")).code == 0
