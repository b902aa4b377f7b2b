"""InfoReg's steps, traces and window against the formula, over several epochs."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from helpers.steps import TOLERANCE, exercise, gradients_of

BETA, LIMIT, WINDOW, EPOCHS = 0.7, 0.25, 3, 6


@dataclass
class StartOf:
    """The start of an epoch of a network."""

    network: torch.nn.Module
    epoch: int


def growth_of(traces: list[float]) -> float:
    """The relative growth of the sum over the last WINDOW epochs; 1 before the first."""
    if not traces:
        return 1.0
    now, before = sum(traces[-WINDOW:]), sum(traces[-WINDOW - 1 : -1])
    return (now - before) / now


@pytest.mark.parametrize("modalities", [2, 3])
def test_steps_are_the_formulas(modalities):
    settings = {"inforeg.beta": BETA, "inforeg.growth": LIMIT, "inforeg.window": WINDOW}
    ex = exercise("inforeg", modalities, seed=1, **settings)
    names, y = list(ex.network.encoders), ex.batch.labels
    traces: dict[str, list[float]] = {m: [] for m in names}
    pulled = set()
    for epoch in range(EPOCHS):
        ex.method.on_epoch_start(StartOf(ex.network, epoch))
        start = dict(copy.deepcopy(ex.network).named_parameters())
        growth = {m: growth_of(traces[m]) for m in names}
        grown = dict(zip(names, ex.method.growth.tolist(), strict=True))
        assert grown == pytest.approx(growth, rel=1e-10) == ex.method.epoch_record(None)["growth"]
        trace = dict.fromkeys(names, 0.0)
        for _ in range(2):
            now = copy.deepcopy(ex.network).train()
            outputs = now(ex.batch.inputs)
            loss = sum(F.cross_entropy(z, y) for z in outputs.logits.values())
            gradients = gradients_of(loss, now)
            score = {
                m: sum(torch.softmax(z[i], 0)[k].item() for i, k in enumerate(y.tolist()))
                for m, z in outputs.unimodal.items()
            }
            lead = max(score, key=score.__getitem__)
            gap = score[lead] - sum(score[m] for m in names if m != lead) / (modalities - 1)
            open_window = growth[lead] > LIMIT
            pulled.add(open_window)
            for name, parameter in now.named_parameters():
                if open_window and name.startswith(f"encoders.{lead}."):
                    pull = BETA * math.exp(math.tanh(gap)) * (parameter - start[name])
                    gradients[name] = gradients[name] + pull.detach()
                for m in names:
                    if name.startswith(f"encoders.{m}.") and parameter.dim() > 1:
                        trace[m] += float((gradients[name] ** 2).mean())
            assert ex.step(epoch).loss.item() == pytest.approx(loss.item(), rel=1e-10)
            ex.assert_gradients(gradients)
        wanted = torch.tensor([trace[m] for m in names], dtype=torch.float64)
        torch.testing.assert_close(ex.method.trace, wanted, **TOLERANCE)
        for m in names:
            traces[m].append(trace[m])
    assert pulled == {True, False}, "the window was open and closed"


def test_beta_zero_is_joint_heads():
    ex, plain = exercise("inforeg", inforeg__beta=0), exercise("joint-heads")
    for _ in range(2):
        ex.step()
        plain.step()
    for a, b in zip(ex.network.parameters(), plain.network.parameters(), strict=True):
        assert torch.equal(a, b)
