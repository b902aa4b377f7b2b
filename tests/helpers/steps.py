"""One real training step in float64 on a tiny network, for comparison with a formula."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mgap_cli.config import Config
from mgap_cli.data.loading.loader import Batch
from mgap_cli.methods import load_method
from mgap_cli.methods.base import BudgetEpoch, Method, with_required_model
from mgap_cli.modalities.audio_visual import AUDIO_VISUAL
from mgap_cli.modalities.modality import Modality
from mgap_cli.model.network import MultimodalNetwork
from mgap_cli.training.distributed import World
from mgap_cli.training.optimizers import Optimizers
from mgap_cli.training.precision import Precision
from mgap_cli.training.stage import Stage
from mgap_cli.training.step import Engine, TrainingStep
from mgap_cli.training.step_guard import StepGuard
from mgap_cli.training.task import build_task

CLASSES, ROWS, SAMPLES, BUDGET = 4, 6, 20, 10
TOLERANCE = {"rtol": 1e-10, "atol": 1e-10}
CPU = torch.device("cpu")


@dataclass
class Exercise:
    """A method on a tiny network in float64, trained with plain SGD (no momentum, no weight decay).

    before: a copy of the network before the first step, for the computation of a reference.
    """

    method: Method
    network: MultimodalNetwork
    before: MultimodalNetwork
    engine: Engine
    batch: Batch
    lr: float

    def step(self, epoch: int = 0, batch: Batch | None = None, progress: float = 0.0) -> TrainingStep:
        """Take one step in epoch `epoch` of a budget of BUDGET epochs, and return it."""
        generator = torch.Generator().manual_seed(epoch)
        budget_epoch = BudgetEpoch(epoch, BUDGET)
        taken = TrainingStep(self.engine, batch or self.batch, generator, budget_epoch, progress)
        self.method.training_step(taken)
        return taken

    def assert_gradients(self, expected: Mapping[str, Tensor]) -> None:
        """Assert the last step's gradients by name; a parameter that is absent has none, or zeros."""
        named = dict(self.network.named_parameters())
        assert expected.keys() <= named.keys()
        for name, parameter in named.items():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            wanted = expected.get(name, torch.zeros_like(parameter))
            torch.testing.assert_close(gradient, wanted, **TOLERANCE, msg=lambda m, name=name: f"{name}: {m}")

    def assert_updated(self, gradients: Mapping[str, Tensor]) -> None:
        """Assert that each parameter is that of `before` minus the learning rate times its gradient."""
        old = dict(self.before.named_parameters())
        for name, parameter in self.network.named_parameters():
            wanted = old[name] - self.lr * gradients.get(name, torch.zeros_like(parameter))
            torch.testing.assert_close(
                parameter.detach(), wanted.detach(), **TOLERANCE, msg=lambda m, name=name: f"{name}: {m}"
            )


def exercise(name: str, modalities: int = 2, seed: int = 0, **settings: Any) -> Exercise:
    """Return a method on features of `modalities` modalities; settings are written as `section__key`."""
    config = _config({"model.encoder": "mlp", "model.hidden": 5}, settings)
    records = [Modality(f"m{i}", "features", 3 + i) for i in range(modalities)]
    generator = torch.Generator().manual_seed(seed)
    inputs = {m.name: torch.randn(ROWS, m.channels, generator=generator).double() for m in records}
    labels = torch.randint(CLASSES, (ROWS,), generator=generator)
    index = torch.randperm(SAMPLES, generator=generator)[:ROWS]
    batch = Batch(index, labels, inputs, torch.zeros_like(index))
    return _exercise(name, config, records, batch)


def image_exercise(name: str, **settings: Any) -> Exercise:
    """Return a method on tiny spectrograms and frames, with convolutions; the rest as in `exercise`."""
    generator = torch.Generator().manual_seed(0)
    audio = torch.randn(ROWS, 1, 17, 20, generator=generator).double()
    visual = torch.randn(ROWS, 1, 3, 16, 16, generator=generator).double()
    labels = torch.randint(CLASSES, (ROWS,), generator=generator)
    inputs = {"audio": audio, "visual": visual}
    batch = Batch(torch.arange(ROWS), labels, inputs, torch.zeros(ROWS, dtype=torch.int64))
    config = _config({"model.encoder": "resnet10", "model.width": 2}, settings)
    return _exercise(name, config, list(AUDIO_VISUAL), batch)


def _config(network: dict[str, Any], settings: dict[str, Any]) -> Config:
    plain_sgd = {"train.momentum": 0, "train.weight_decay": 0, "train.lr": 0.1}
    asked = {key.replace("__", "."): value for key, value in settings.items()}
    return Config().updated({**network, **plain_sgd, **asked}, "test")


def _exercise(name: str, config: Config, modalities: list[Modality], batch: Batch) -> Exercise:
    config = with_required_model(load_method(name), config)
    task = build_task(config, name, CLASSES, SAMPLES, modalities).double().train()
    optimizers = Optimizers(task, config, Stage("train", name, BUDGET, BUDGET), CPU)
    engine = Engine(
        task,
        task.network,
        optimizers,
        StepGuard(task, 3),
        Precision("fp32", CPU),
        torch.amp.GradScaler("cpu", enabled=False),
        World(),
        0.0,
    )
    before = copy.deepcopy(task.network)
    return Exercise(task.method, task.network, before, engine, batch, config.train.lr)


def gradients_of(loss: Tensor, network: MultimodalNetwork) -> dict[str, Tensor]:
    """Return the gradient of a loss by parameter name; a parameter that it does not depend on is absent."""
    named = dict(network.named_parameters())
    values = torch.autograd.grad(loss, list(named.values()), retain_graph=True, allow_unused=True)
    return {name: g for name, g in zip(named, values, strict=True) if g is not None}
