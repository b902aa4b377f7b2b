"""LFM's steps and its learned weight against the formula."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from helpers.steps import Exercise, exercise

from mgap_cli.errors import UsageError


def reference(network: torch.nn.Module, ex: Exercise) -> tuple[torch.Tensor, torch.Tensor]:
    """Return CE of the mean logits and JS over pairs, from probabilities."""
    logits = list(network.train()(ex.batch.inputs).unimodal.values())
    y = ex.batch.labels
    p = torch.softmax(sum(logits) / len(logits), 1)
    ce = -p[range(len(y)), y].log().mean()
    js = []
    for a, b in itertools.combinations([torch.softmax(z, 1) for z in logits], 2):
        m = (a + b) / 2
        js.append((0.5 * (a * (a / m).log()).sum(1) + 0.5 * (b * (b / m).log()).sum(1)).mean())
    return ce, sum(js) / len(js)


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("schedule", ["hypergradient", "constant"])
def test_three_steps_are_the_formulas(modalities, schedule):
    ex = exercise("lfm", modalities, lfm__rate=0.02, lfm__schedule=schedule)
    a = float(ex.method.agreement)
    assert a == pytest.approx(0.795, abs=1e-7)
    for _ in range(3):
        network = copy.deepcopy(ex.network)
        ce, js = reference(network, ex)
        named = dict(network.named_parameters())
        fit, agree = (
            torch.autograd.grad(of, list(named.values()), retain_graph=True, allow_unused=True)
            for of in (ce, js)
        )
        expected, slope = {}, 0.0
        for name, g, h in zip(named, fit, agree, strict=True):
            expected[name] = 2 * ((1 - a) * g + a * h)
            slope += float((g * (h - g)).sum())
        assert ex.step().loss.item() == pytest.approx(2 * ((1 - a) * ce.item() + a * js.item()), rel=1e-10)
        ex.assert_gradients(expected)
        if schedule == "hypergradient":
            a = min(0.95, max(0.05, a + 0.02 * slope))
        assert float(ex.method.agreement) == pytest.approx(a, rel=1e-10)
        assert ex.method.epoch_record(None) == {"agreement": float(ex.method.agreement)}


def test_the_weight_stays_within_its_bounds():
    ex = exercise("lfm", lfm__rate=1e6)
    for _ in range(2):
        ex.step()
        assert float(ex.method.agreement) in (pytest.approx(0.05), pytest.approx(0.95))


def test_the_decision_is_the_mean_of_the_heads():
    ex = exercise("lfm", 3)
    outputs = ex.network.eval()(ex.batch.inputs)
    torch.testing.assert_close(outputs.fused, sum(outputs.unimodal.values()) / 3)
    assert ex.method.config.model.fusion == "late-mean"


def test_another_fusion_is_refused():
    with pytest.raises(UsageError, match=r"lfm needs model\.fusion=late-mean, and it is film"):
        exercise("lfm", model__fusion="film")
