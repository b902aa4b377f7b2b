"""The learning rate of encoders that start from a file of weights."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from mgap_cli.config import Config
from mgap_cli.training.optimizers import Optimizers
from mgap_cli.training.stage import Stage
from mgap_cli.training.task import Task, build_task

CPU = torch.device("cpu")
STAGE = Stage("train", "joint-heads", 4, 4)
TINY = {"model.encoder": "resnet10", "model.width": 4, "train.lr": 0.1, "train.schedule": "cosine"}


@pytest.fixture(params=["sgd", "adamw"])
def config(request, tmp_path) -> Config:
    plain = Config().updated(TINY, "here")
    torch.manual_seed(1)
    torch.save(make(plain).network.encoders["visual"].state_dict(), tmp_path / "weights.pth")
    changes = {"model.visual_weights": str(tmp_path / "weights.pth"), "train.optimizer": request.param}
    return plain.updated({**changes, "train.pretrained_lr": 0.25}, "here")


def make(config: Config, method: str = "joint-heads") -> Task:
    return build_task(config, method, 3, 10)


def rates(optimizers: Optimizers) -> dict[str, float]:
    """Return the learning rate of each parameter by its name."""
    groups = [of for o in optimizers.by_group.values() for of in o.param_groups]
    lrs = [of["lr"] for of in groups for _ in of["params"]]
    return dict(zip(optimizers.named_parameters(), lrs, strict=True))


def is_pretrained(name: str) -> bool:
    return name.startswith("network.encoders.visual.")


def take_steps(task: Task, optimizers: Optimizers, count: int) -> None:
    for step in range(count):
        generator = torch.Generator().manual_seed(step)
        for name, parameter in sorted(task.named_parameters()):
            parameter.grad = torch.randn(parameter.shape, generator=generator) + len(name)
        for optimizer in optimizers.by_group.values():
            optimizer.step()
        optimizers.next_epoch()


@pytest.mark.parametrize("method", ["joint-heads", "ensemble"])
def test_pretrained_weights_have_their_own_share_of_the_learning_rate(config, method):
    task = make(config, method)
    optimizers = Optimizers(task, config, STAGE, CPU)
    assert optimizers.named_parameters() == dict(task.named_parameters()) or method == "ensemble"
    for lr in (0.1, 0.1 * 0.8535533905932737):  # cosine: 0.5 (1 + cos(pi / 4)) after one of four epochs
        rates_of = rates(optimizers)
        assert len({is_pretrained(name) for name in rates_of}) == 2
        for name, rate in rates_of.items():
            assert rate == pytest.approx(0.25 * lr if is_pretrained(name) else lr), name
        take_steps(task, optimizers, 1)


def test_0_keeps_pretrained_weights_as_they_are(config):
    config = config.updated({"train.pretrained_lr": 0}, "here")
    task = make(config)
    before = {name: p.detach().clone() for name, p in task.named_parameters()}
    take_steps(task, Optimizers(task, config, STAGE, CPU), 2)
    for name, parameter in task.named_parameters():
        assert torch.equal(parameter, before[name]) == is_pretrained(name), name


def test_a_resumed_run_continues_with_both_rates(config):
    whole = make(config)
    optimizers = Optimizers(whole, config, STAGE, CPU)
    take_steps(whole, optimizers, 2)
    saved, weights = deepcopy(optimizers.state_dict()), deepcopy(whole.state_dict())
    take_steps(whole, optimizers, 1)
    again = make(config)
    again.load_state_dict(weights)
    resumed = Optimizers(again, config, STAGE, CPU)
    resumed.load_state_dict(saved)
    take_steps(again, resumed, 1)
    assert rates(resumed) == rates(optimizers)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())


def test_factor_1_is_one_group_of_parameters(config):
    config = config.updated({"train.pretrained_lr": 1}, "here")
    optimizers = Optimizers(make(config), config, STAGE, CPU)
    assert [len(o.param_groups) for o in optimizers.by_group.values()] == [1]
