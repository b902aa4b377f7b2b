"""Measures of imbalance against enumeration, finite differences, numbers by hand and a linear model."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from mgap_cli.analysis.measures.confidence import confidence_share, entropy_share
from mgap_cli.analysis.measures.discrepancy import discrepancy_ratio
from mgap_cli.analysis.measures.gradients import gradient_measures, gradients
from mgap_cli.analysis.measures.probe import Features, probe_hits, probe_measures
from mgap_cli.analysis.measures.shapley import (
    Coalitions,
    dataset_contributions,
    sample_contributions,
    shapley,
)
from mgap_cli.config import EvaluateConfig, ModelConfig
from mgap_cli.data.loading.loader import Batch
from mgap_cli.gap.scores import certainty_of
from mgap_cli.model.network import MultimodalNetwork
from mgap_cli.stats.intervals import student_interval

BOOTSTRAP = EvaluateConfig(bootstrap=300)
GENERATOR = np.random.default_rng(0)


def by_permutations(value: dict[frozenset[str], float], player: str) -> float:
    """The Shapley value by its definition: the mean marginal contribution over all orders."""
    orders = list(itertools.permutations("av"))
    total = 0.0
    for order in orders:
        before = frozenset(order[: order.index(player)])
        total += value[before | {player}] - value[before]
    return total / len(orders)


def random_coalitions(n: int = 200) -> Coalitions:
    return Coalitions(*(GENERATOR.random(n) < share for share in (0.9, 0.8, 0.3, 0.1)))


def test_shapley_values_are_those_of_all_orders_and_add_up():
    right = random_coalitions()
    a, v = sample_contributions(right)
    for i in range(len(a)):
        value = {
            frozenset(): 0.0,
            frozenset("a"): float(right.first[i]),
            frozenset("v"): float(right.second[i]),
            frozenset("av"): 2.0 * right.both[i],
        }
        assert (a[i], v[i]) == (by_permutations(value, "a"), by_permutations(value, "v"))
    np.testing.assert_allclose(a + v, 2.0 * right.both)  # efficiency

    a, v = (x.mean() for x in dataset_contributions(right))
    accuracy = {
        frozenset(): right.none.mean(),
        frozenset("a"): right.first.mean(),
        frozenset("v"): right.second.mean(),
        frozenset("av"): right.both.mean(),
    }
    assert a == pytest.approx(by_permutations(accuracy, "a"))
    assert v == pytest.approx(by_permutations(accuracy, "v"))
    assert a + v == pytest.approx(right.both.mean() - right.none.mean())


def test_shapley_of_exchanged_modalities_is_exchanged_and_a_dummy_has_none():
    right = random_coalitions()
    one = shapley(right, "zeros", BOOTSTRAP)
    other = shapley(Coalitions(right.both, right.second, right.first, right.none), "zeros", BOOTSTRAP)
    for m, n in zip(one, other, strict=True):
        assert (m.first, m.second) == (n.second, n.first)
        assert m.leader == "first" and n.leader == "second"
    dummy = Coalitions(right.both, right.both, right.none, right.none)
    assert not dataset_contributions(dummy)[1].any()


def test_discrepancy_ratio_and_its_interval():
    a, b = GENERATOR.beta(4, 2, 400), GENERATOR.beta(2, 2, 400)
    measure = discrepancy_ratio(a, b, 0.95)
    assert measure.value == pytest.approx(a.sum() / b.sum())
    draws = [a[i].sum() / b[i].sum() for i in (GENERATOR.integers(0, 400, 400) for _ in range(4000))]
    assert measure.interval is not None and measure.leader == "first"
    np.testing.assert_allclose(measure.interval.to_list(), np.quantile(draws, [0.025, 0.975]), rtol=0.01)
    inverse = discrepancy_ratio(b, a, 0.95)
    assert inverse.value == pytest.approx(1 / measure.value) and inverse.leader == "second"
    assert discrepancy_ratio(a, np.zeros(400), 0.95).value is None
    assert discrepancy_ratio(a, a, 0.95).leader is None


def test_confidence_and_entropy_shares():
    sure, unsure = (certainty_of(p) for p in (np.array([[1.0, 0, 0], [0.5, 0.5, 0]]), np.full((2, 3), 1 / 3)))
    measure = confidence_share(sure[:, 0], unsure[:, 0], BOOTSTRAP)
    assert measure.first == pytest.approx((1 / (4 / 3) + 0.5 / (5 / 6)) / 2)
    assert measure.first + measure.second == pytest.approx(1)
    measure = entropy_share(sure[:, 1], unsure[:, 1], BOOTSTRAP)
    assert measure.first == pytest.approx((0 + math.log(2) / math.log(6)) / 2) and measure.leader == "first"
    p = GENERATOR.dirichlet(np.ones(5), 50)
    np.testing.assert_allclose(certainty_of(p)[:, 1], stats.entropy(p, axis=1))
    measure = entropy_share(np.zeros(3), np.zeros(3), BOOTSTRAP)
    assert (measure.first, measure.second, measure.leader) == (0.5, 0.5, None)


class Linear(nn.Module):
    """An encoder that is one matrix."""

    whole_clips = False

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(features, inputs, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) @ self.weight.T


def linear_network() -> MultimodalNetwork:
    torch.manual_seed(0)
    network = MultimodalNetwork(ModelConfig(encoder="resnet10", width=4), 3)
    features = network.fusion.linear.in_features // 2
    network.encoders = nn.ModuleDict({"audio": Linear(6, features), "visual": Linear(12, features)})
    return network.double()


def batch_of(n: int, seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(seed)
    frames = torch.randn(n, 1, 3, 2, 2, generator=g, dtype=torch.float64)
    audio = torch.randn(n, 1, 2, 3, generator=g, dtype=torch.float64)
    labels, copies = torch.randint(0, 3, (n,), generator=g), torch.zeros(n, dtype=torch.int64)
    return Batch(torch.arange(n), labels, {"audio": audio, "visual": frames}, copies)


def test_gradients_of_a_linear_model_are_those_written_out():
    """The gradients are compared with dCE/dW, written out for a linear network."""
    network, batch = linear_network(), batch_of(7)
    result = gradients(network, [batch])
    d = network.encoders["audio"].weight.shape[0]
    onehot = torch.eye(3, dtype=torch.float64)[batch.labels]
    with torch.no_grad():
        outputs = network(batch.inputs)
        for m, x, head, half in (
            (
                0,
                batch.inputs["audio"].flatten(1),
                network.heads["audio"],
                network.fusion.linear.weight[:, :d],
            ),
            (
                1,
                batch.inputs["visual"].flatten(1),
                network.heads["visual"],
                network.fusion.linear.weight[:, d:],
            ),
        ):
            own_logits = outputs.unimodal["audio" if m == 0 else "visual"]
            g = ((outputs.fused.softmax(1) - onehot) @ half / 7).T @ x
            h = ((own_logits.softmax(1) - onehot) @ head.weight / 7).T @ x
            assert result.fused_norm[0, m] == pytest.approx(float(g.norm()), rel=1e-5)
            assert result.unimodal_norm[0, m] == pytest.approx(float(h.norm()), rel=1e-5)
            cosine = float((g * h).sum() / (g.norm() * h.norm()))
            assert result.cosine[0, m] == pytest.approx(cosine, abs=1e-5)


def test_gradients_of_convolutions_are_those_of_finite_differences_and_touch_nothing():
    torch.manual_seed(0)
    network = MultimodalNetwork(ModelConfig(encoder="resnet10", width=4), 3)
    batch = Batch(
        torch.arange(4),
        torch.tensor([0, 1, 2, 0]),
        {"visual": torch.randn(4, 2, 3, 16, 16), "audio": torch.randn(4, 1, 16, 16)},
        torch.zeros(4, dtype=torch.int64),
    )
    network.train()
    before = copy.deepcopy(network.state_dict())
    result = gradients(network, [batch])
    assert network.training
    assert all(p.grad is None for p in network.parameters())
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())  # BN statistics too
    # Along its own direction d = g / |g| the loss rises by |g|.
    exact = copy.deepcopy(network).eval()
    loss = nn.functional.cross_entropy(exact(batch.inputs).fused, batch.labels)
    parameters = list(exact.encoders["audio"].parameters())
    parts = torch.autograd.grad(loss, parameters)
    size = result.fused_norm[0, 0]
    exact.double()
    parameters = list(exact.encoders["audio"].parameters())
    values = []
    for step in (1e-4, -1e-4):
        with torch.no_grad():
            for p, g in zip(parameters, parts, strict=True):
                p += step * g / size
            fused = exact({m: x.double() for m, x in batch.inputs.items()}).fused
            values.append(float(nn.functional.cross_entropy(fused, batch.labels)))
            for p, g in zip(parameters, parts, strict=True):
                p -= step * g / size
    assert (values[0] - values[1]) / 2e-4 == pytest.approx(size, rel=1e-3)


def test_in_a_network_whose_head_is_its_fusion_the_gradients_agree():
    """Without the visual weights and input, the fused loss is the audio loss: cosine 1, norm ratio 1."""
    network = linear_network()
    d = network.encoders["audio"].weight.shape[0]
    with torch.no_grad():
        network.fusion.linear.weight[:, d:] *= 1e-9
        network.fusion.linear.weight[:, :d] = network.heads["audio"].weight
        network.fusion.linear.bias.copy_(network.heads["audio"].bias)
    measured = gradient_measures(gradients(network, [batch_of(9, s) for s in range(3)]), 0.95)
    cosine, norm, ratio = measured
    assert cosine.first == pytest.approx(1) and ratio.first == pytest.approx(1)
    assert norm.leader == "first" and norm.n == 3 and norm.units == "batches"


def test_one_batch_has_no_interval_and_no_batch_has_no_values():
    network = linear_network()
    for m in gradient_measures(gradients(network, [batch_of(5)]), 0.95):
        assert m.n == 1 and m.value is not None and m.interval is None and m.leader is None
    for m in gradient_measures(gradients(network, []), 0.95):
        assert m.n == 0 and m.value is None


def test_student_interval():
    values = GENERATOR.normal(3, 2, 12)
    low, high = stats.t.interval(0.9, 11, loc=values.mean(), scale=stats.sem(values))
    interval = student_interval(values, 0.9)
    assert interval is not None and interval.to_list() == pytest.approx([low, high])


def test_probes_find_what_is_linear_and_no_more():
    labels = GENERATOR.integers(0, 3, 600)
    clear = np.eye(3)[labels] * 5 + GENERATOR.normal(size=(600, 3))
    noise = GENERATOR.normal(size=(600, 3))
    train = Features(labels[:300], {"audio": clear[:300], "visual": noise[:300]}, {})
    split = Features(labels[300:], {"audio": clear[300:], "visual": noise[300:]}, {})
    hits = probe_hits(train, split)
    assert hits["audio"].mean() > 0.95 and hits["visual"].mean() < 0.5
    perfect = np.ones(300, dtype=bool)
    accuracy, gap = probe_measures(hits, {"visual": perfect}, BOOTSTRAP)
    assert accuracy.leader == "first"
    assert gap.first is None and gap.second == pytest.approx(1 - hits["visual"].mean())
    gap = probe_measures(hits, {"audio": perfect, "visual": perfect}, BOOTSTRAP)[1]
    assert gap.leader == "first"  # less is lost on it
    assert gap.value == pytest.approx(hits["visual"].mean() - hits["audio"].mean())
