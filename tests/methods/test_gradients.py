"""Gradients in a small real network: joint's probes, and OGM's modulation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.methods import GradientStep, batch_of, built, configured, network_for
from helpers.steps import TOLERANCE, exercise, gradients_of, image_exercise
from torch import Tensor, nn

from mgap_cli.config import Config
from mgap_cli.data.loading.loader import Batch
from mgap_cli.errors import ExitCode, UsageError
from mgap_cli.methods.base import BudgetEpoch, Method
from mgap_cli.model.network import MultimodalNetwork, Outputs

CLASSES, BATCH = 4, 6
FIRST = BudgetEpoch(0, 100)


def forwarded(
    config: Config, name: str, leader: str = "audio"
) -> tuple[MultimodalNetwork, Method, Outputs, Batch]:
    """A network and a batch whose labels are the classes to which `leader` contributes most."""
    torch.manual_seed(0)
    network = network_for(name, config, CLASSES)
    method = built(name, config, BATCH, network)
    inputs = {"visual": torch.randn(BATCH, 2, 3, 32, 32), "audio": torch.randn(BATCH, 1, 33, 20)}
    outputs = network(inputs)
    labels = outputs.contributions[leader].argmax(dim=1)
    return network, method, outputs, batch_of(torch.arange(BATCH), labels, inputs)


def gradients(network: nn.Module) -> dict[str, Tensor]:
    return {k: p.grad.clone() for k, p in network.named_parameters() if p.grad is not None}


def ratio64(outputs: Outputs, labels: Tensor) -> float:
    """rho_a of the batch."""
    p = [
        torch.softmax(part.detach().double(), dim=1).numpy()[np.arange(BATCH), labels]
        for part in (outputs.contributions["audio"], outputs.contributions["visual"])
    ]
    return float(p[0].sum() / p[1].sum())


def test_joints_probes_leave_the_encoders_and_the_fusion_alone():
    network, method, outputs, batch = forwarded(configured(), "joint")
    named = dict(network.named_parameters())
    fused = F.cross_entropy(outputs.fused, batch.labels)
    alone = torch.autograd.grad(fused, list(named.values()), retain_graph=True, allow_unused=True)
    method.loss(outputs, batch).backward()
    for (name, parameter), reference in zip(named.items(), alone, strict=True):
        if name.startswith("heads."):
            assert reference is None
            assert parameter.grad.abs().sum() > 0
        else:
            assert torch.equal(parameter.grad, reference), name


def test_joint_heads_do_reach_the_encoders():
    network, method, outputs, batch = forwarded(configured(), "joint-heads")
    encoder = list(network.encoders["visual"].parameters())
    alone = torch.autograd.grad(F.cross_entropy(outputs.fused, batch.labels), encoder, retain_graph=True)
    method.loss(outputs, batch).backward()
    assert any(not torch.allclose(p.grad, g) for p, g in zip(encoder, alone, strict=True))


@pytest.mark.parametrize("name", ["ogm", "ogm-ge"])
def test_ogms_loss_is_joints(name):
    _, method, outputs, batch = forwarded(configured(), name)
    joint = built("joint", configured(), BATCH)
    assert method.loss(outputs, batch).item() == joint.loss(outputs, batch).item()


@pytest.mark.parametrize("alpha", [0.1, 0.8])
@pytest.mark.parametrize("fusion", ["concat", "sum"])
@pytest.mark.parametrize("leader", ["audio", "visual"])
def test_ogm_slows_the_leading_encoders_convolutions_and_nothing_else(leader, fusion, alpha):
    config = configured(model__fusion=fusion, ogm__alpha=alpha)
    network, method, outputs, batch = forwarded(config, "ogm", leader)
    method.loss(outputs, batch).backward()
    before = gradients(network)
    method.edit_gradients(GradientStep(network, FIRST))
    rho = ratio64(outputs, batch.labels)
    rho = rho if leader == "audio" else 1 / rho
    assert rho > 1
    modulated = 0
    for name, after in gradients(network).items():
        if name.startswith(f"encoders.{leader}.") and after.dim() == 4:
            modulated += 1
            expected = before[name].double() * (1 - np.tanh(alpha * rho))
            torch.testing.assert_close(after.double(), expected, rtol=1e-5, atol=1e-12)
        else:
            assert torch.equal(after, before[name]), name
    assert modulated == 12  # resnet10: conv1, two per block, three shortcuts


def test_ge_adds_noise_of_each_convolution_gradients_own_spread():
    config = configured(model__width=8)
    network, method, outputs, batch = forwarded(config, "ogm-ge")
    method.loss(outputs, batch).backward()
    before = gradients(network)
    method.edit_gradients(GradientStep(network, FIRST, torch.Generator().manual_seed(1)))
    factor = 1 - np.tanh(config.method_settings("ogm-ge").alpha * ratio64(outputs, batch.labels))
    drawn = {"audio": [], "visual": []}
    for name, after in gradients(network).items():
        modality = name.removeprefix("encoders.").split(".")[0]
        if modality in drawn and after.dim() == 4:
            scaled = before[name] * (factor if modality == "audio" else 1.0)
            noise = (after - scaled) / before[name].std()
            assert noise.std().item() == pytest.approx(1, abs=0.2)
            drawn[modality].append(noise.flatten())
        else:
            assert torch.equal(after, before[name]), name
    for noise in map(torch.cat, drawn.values()):
        assert noise.mean().item() == pytest.approx(0, abs=0.03)
        assert noise.std().item() == pytest.approx(1, abs=0.02)
        assert noise.abs().max() > 3  # a Gaussian's tail


def test_ge_is_reproducible_by_its_generator():
    noises = []
    for seed in (1, 1, 2):
        network, method, outputs, batch = forwarded(configured(), "ogm-ge")
        method.loss(outputs, batch).backward()
        torch.manual_seed(len(noises))  # the global generator has no effect
        method.edit_gradients(GradientStep(network, FIRST, torch.Generator().manual_seed(seed)))
        noises.append(network.encoders["audio"].conv1.weight.grad)
    assert torch.equal(noises[0], noises[1])
    assert not torch.equal(noises[0], noises[2])


@pytest.mark.parametrize(
    ("window", "budget", "modulated"),
    [
        ({}, 100, range(51)),  # as in the published program: 0 <= epoch <= 50
        ({}, 18, range(10)),
        ({}, 5, range(3)),
        ({}, 1, range(1)),
        ({"start": 0.25, "end": 0.75}, 8, range(2, 7)),
        ({"start": 0.07, "end": 0.29}, 100, range(7, 30)),  # where 0.07 * 100 > 7 and 0.29 * 100 < 29
        ({"end": 1}, 7, range(7)),
        ({"end": 0}, 7, range(1)),
        ({"start": 1, "end": 1}, 7, range(0)),
    ],
)
@pytest.mark.parametrize("name", ["ogm", "ogm-ge"])
def test_ogm_modulates_in_its_window_of_the_budget_and_nowhere_else(name, window, budget, modulated):
    config = configured(**{f"{name}.{key}": value for key, value in window.items()})
    network, method, outputs, batch = forwarded(config, name)
    method.loss(outputs, batch).backward()
    before = gradients(network)
    changed = []
    for index in range(budget):
        epoch = BudgetEpoch(index, budget)
        method.edit_gradients(GradientStep(network, epoch))
        if any(not torch.equal(after, before[name]) for name, after in gradients(network).items()):
            changed.append(index)
        assert method.epoch_record(epoch) == {"modulated": index in modulated}
        for key, parameter in network.named_parameters():
            parameter.grad = before[key].clone() if key in before else None
    assert changed == list(modulated)


@pytest.mark.parametrize("fusion", ["film", "gated"])
@pytest.mark.parametrize("name", ["ogm", "ogm-ge"])
def test_ogm_modulates_in_a_fusion_without_parts_by_zero_inputs(name, fusion):
    """rho is the ratio of the contributions (z - z_0v + z_a0) / 2 and (z - z_a0 + z_0v) / 2."""
    ex = image_exercise(name, model__fusion=fusion)
    network, inputs, labels = ex.before.train(), ex.batch.inputs, ex.batch.labels
    outputs = network(inputs)
    loss = sum(F.cross_entropy(z, labels) for z in (outputs.fused, *probed(network, outputs).values()))
    plain = gradients_of(loss, network)
    z_a, z_v = (network({m: x if m == kept else 0 * x for m, x in inputs.items()}).fused for kept in inputs)
    phi = (outputs.fused - z_v + z_a) / 2, (outputs.fused - z_a + z_v) / 2
    first, second = (torch.softmax(part, 1)[range(len(labels)), labels].sum() for part in phi)
    rhos = {"audio": first / second, "visual": second / first}
    ex.step()
    slowed = 0
    for key, parameter in ex.network.named_parameters():
        modality = key.split(".")[1]
        if key.startswith("encoders.") and parameter.dim() == 4 and rhos[modality] > 1:
            slowed += 1
            if name == "ogm":
                expected = plain[key] * (1 - torch.tanh(ex.method.settings.alpha * rhos[modality]))
                torch.testing.assert_close(parameter.grad, expected, **TOLERANCE)
        elif name == "ogm" or parameter.dim() != 4:
            torch.testing.assert_close(parameter.grad, plain[key], **TOLERANCE)
    assert slowed == 12


def test_outside_the_window_ogm_in_such_a_fusion_is_joint_training():
    ex, joint = (image_exercise(name, model__fusion="film") for name in ("ogm", "joint"))
    ex.step(9)
    joint.step(9)
    for key, parameter in joint.network.named_parameters():
        assert torch.equal(dict(ex.network.named_parameters())[key].grad, parameter.grad), key


@pytest.mark.parametrize("name", ["ogm", "ogm-ge"])
def test_ogm_refuses_three_modalities(name):
    with pytest.raises(UsageError, match="compares two modalities, and this store has 3") as caught:
        exercise(name, 3)
    assert caught.value.exit_code == ExitCode.USAGE


def probed(network: MultimodalNetwork, outputs: Outputs) -> dict[str, Tensor]:
    return {m: network.heads[m](f.detach()) for m, f in outputs.features.items()}
