"""One optimizer and one learning-rate schedule per group of parameters, saved by parameter name."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from mgap_cli.errors import UsageError
from mgap_cli.training.fitting import require_alike, require_fitting_memory

if TYPE_CHECKING:
    from mgap_cli.config import Config
    from mgap_cli.training.stage import Stage
    from mgap_cli.training.task import Task


class Optimizers:
    """The optimizers of a task, one for each of its method's groups of parameters."""

    def __init__(self, task: Task, config: Config, stage: Stage, device: torch.device) -> None:
        names = {parameter: name for name, parameter in task.named_parameters()}
        self.by_group: dict[str, torch.optim.Optimizer] = {}
        self.names: dict[str, list[str]] = {}
        slower = tuple(f"network.encoders.{m}." for m in config.model.pretrained())
        for group, parameters in task.method.parameter_groups(task.network).items():
            trained = [p for p in parameters if p.requires_grad]
            if not trained:
                raise UsageError(f"method {task.method.name}: group {group!r} has no parameter to train.")
            pretrained = []
            if config.train.pretrained_lr != 1:
                pretrained = [p for p in trained if names[p].startswith(slower)]
            kept = {id(p) for p in pretrained}
            new = [p for p in trained if id(p) not in kept]
            self.by_group[group] = _optimizer(new, pretrained, config, device)
            self.names[group] = [names[p] for p in (*new, *pretrained)]
        self.schedules = {g: _schedule(o, config, stage) for g, o in self.by_group.items()}

    @property
    def lr(self) -> float:
        """Return the learning rate of the first group."""
        return float(next(iter(self.schedules.values())).get_last_lr()[0])

    def chosen(self, group: str | None) -> list[torch.optim.Optimizer]:
        """Return the optimizer of one group, or all of them."""
        return list(self.by_group.values()) if group is None else [self.by_group[group]]

    def parameters(self, group: str | None = None) -> list[nn.Parameter]:
        """Return the parameters of one group, or of all."""
        return [p for o in self.chosen(group) for of in o.param_groups for p in of["params"]]

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """Return every trained parameter by its name in the task."""
        names = [name for group in self.names.values() for name in group]
        return dict(zip(names, self.parameters(), strict=True))

    def zero_gradients(self) -> None:
        """Remove all gradients."""
        for optimizer in self.by_group.values():
            optimizer.zero_grad(set_to_none=True)

    def next_epoch(self) -> None:
        """Set the learning rates of the next epoch."""
        for schedule in self.schedules.values():
            schedule.step()

    def forget(self, module: nn.Module) -> None:
        """Clear what the optimizers remember of a module's parameters.

        The momentum of SGD, and the moments and the step count of AdamW, start again from zero.
        """
        for optimizer in self.by_group.values():
            for parameter in module.parameters():
                for remembered in optimizer.state.get(parameter, {}).values():
                    remembered.zero_()

    def state_dict(self) -> dict[str, Any]:
        """Return for each group its learning rate, schedule and optimizer state by parameter name."""
        return {
            group: {
                "memory": self._memory(group),
                "lr": optimizer.param_groups[0]["lr"],
                "schedule": self.schedules[group].state_dict(),
            }
            for group, optimizer in self.by_group.items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore everything that `state_dict` returned.

        Raises KeyError, TypeError or ValueError for a state that does not fit the parameters.
        """
        for group, optimizer in self.by_group.items():
            require_alike(state[group]["schedule"], self.schedules[group].state_dict())
            require_alike(state[group]["lr"], optimizer.param_groups[0]["lr"])
            self._remember(group, state[group]["memory"])
            optimizer.param_groups[0]["lr"] = state[group]["lr"]
            self.schedules[group].load_state_dict(state[group]["schedule"])
            _, *others = zip(optimizer.param_groups, self.schedules[group].get_last_lr(), strict=True)
            for of, lr in others:
                of["lr"] = lr

    def take_memory(self, state: dict[str, Any]) -> None:
        """Take the optimizer's state of every parameter from another run, if a parameter here has the same
        name.
        """
        memory = {name: kept for group in state.values() for name, kept in group["memory"].items()}
        for group in self.by_group:
            self._remember(group, memory)

    def _memory(self, group: str) -> dict[str, dict[str, Any]]:
        state = self.by_group[group].state
        named = zip(self.names[group], self.parameters(group), strict=True)
        return {name: dict(state[parameter]) for name, parameter in named if parameter in state}

    def _remember(self, group: str, memory: dict[str, dict[str, Any]]) -> None:
        # PyTorch's own loader moves and casts the tensors, and it knows parameters by number.
        optimizer = self.by_group[group]
        numbered = {i: memory[name] for i, name in enumerate(self.names[group]) if name in memory}
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": numbered, "param_groups": groups})
        require_fitting_memory(optimizer)


def _optimizer(
    new: list[nn.Parameter], pretrained: list[nn.Parameter], config: Config, device: torch.device
) -> torch.optim.Optimizer:
    """Return the optimizer of one group. Pretrained parameters have their own learning rate in it."""
    train = config.train
    fused = device.type in ("cpu", "cuda")
    groups: list[dict[str, Any]] = [{"params": new}] if new else []
    if pretrained:
        groups.append({"params": pretrained, "lr": train.pretrained_lr * train.lr})
    if train.optimizer == "sgd":
        return torch.optim.SGD(groups, train.lr, train.momentum, weight_decay=train.weight_decay, fused=fused)
    return torch.optim.AdamW(groups, train.lr, weight_decay=train.weight_decay, fused=fused)


def _schedule(optimizer: torch.optim.Optimizer, config: Config, stage: Stage) -> LambdaLR:
    """Return a schedule over the whole budget that begins at the stage's first epoch."""
    train = config.train

    def factor(epoch: int) -> float:
        spent = stage.start_epoch + epoch
        if train.schedule == "step":
            return float(train.gamma ** (spent // train.step_size))
        if train.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * spent / stage.schedule_epochs))
        return 1.0

    return LambdaLR(optimizer, factor)
