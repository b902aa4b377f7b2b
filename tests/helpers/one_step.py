"""One training step in float64 on a tiny network, and what an independent reference is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from helpers.methods import CLASSES, batch_of, configured, network_for
from mgap_cli.data.loading.loader import Batch
from mgap_cli.methods import load_method
from mgap_cli.methods.base import BudgetEpoch, Method
from mgap_cli.model.network import MultimodalNetwork, Outputs

LABELS = torch.tensor([0, 3, 1, 4, 2, 0])
FIRST = BudgetEpoch(0, 10)
TOLERANCE = {"rtol": 1e-10, "atol": 1e-10}


@dataclass
class PlainStep:
    """A training step without precision, processes or optimizer: `update` keeps the gradients in place.

    losses: every loss that was back-propagated.
    """

    network: MultimodalNetwork
    method: Method
    batch: Batch
    epoch: BudgetEpoch = FIRST
    generator: torch.Generator = field(default_factory=torch.Generator)
    losses: list[Tensor] = field(default_factory=list)
    updates: list[str | None] = field(default_factory=list)

    def forward(
        self,
        inputs: Mapping[str, Tensor] | None = None,
        only: Sequence[str] | None = None,
        network: MultimodalNetwork | None = None,
    ) -> Outputs:
        return (network or self.network)(self.batch.inputs if inputs is None else inputs, only)

    def backward(self, loss: Tensor) -> None:
        self.network.zero_grad()
        self.method.zero_grad()
        loss.backward()
        self.losses.append(loss.detach())

    def update(self, group: str | None = None) -> None:
        self.updates.append(group)

    def gradients(self) -> dict[str, Tensor]:
        """Return the gradient of every network parameter that has one."""
        return {n: p.grad.clone() for n, p in self.network.named_parameters() if p.grad is not None}


def tiny_step(name: str, epoch: BudgetEpoch = FIRST, **settings: object) -> PlainStep:
    """Return a step of a method on a small network and a batch of six, in float64."""
    torch.manual_seed(3)
    config = configured(**settings)
    network = network_for(name, config, CLASSES).double()
    method = load_method(name)(config)
    method.build(network, len(LABELS))
    method.double()
    shapes = {"audio": (6, 1, 33, 20), "visual": (6, 2, 3, 32, 32)}
    inputs = {m: torch.randn(shape, dtype=torch.float64) for m, shape in shapes.items()}
    return PlainStep(network.train(), method.train(), batch_of(torch.arange(6), LABELS, inputs), epoch)


def cross_entropy64(logits: Tensor, labels: Tensor = LABELS) -> Tensor:
    """Return mean_i [log sum_c exp z_ic - z_iy], written out."""
    return (logits.exp().sum(dim=1).log() - logits[torch.arange(len(labels)), labels]).mean()


def gradients_of(loss: Tensor, network: MultimodalNetwork) -> dict[str, Tensor]:
    """Return the gradient of every parameter that a loss depends on."""
    named = dict(network.named_parameters())
    values = torch.autograd.grad(loss, list(named.values()), retain_graph=True, allow_unused=True)
    return {n: g for n, g in zip(named, values, strict=True) if g is not None}


def assert_same_gradients(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Assert that both name the same parameters, with gradients equal to 1e-10."""
    assert actual.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[name], gradient, **TOLERANCE, msg=lambda m, n=name: f"{n}: {m}")
