"""Check that a saved training state fits the objects that it is loaded into, before a step fails."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

# What each optimizer remembers of a parameter.
_MEMORY: dict[type[torch.optim.Optimizer], set[str]] = {
    torch.optim.SGD: {"momentum_buffer"},
    torch.optim.AdamW: {"step", "exp_avg", "exp_avg_sq"},
}


def require_alike(saved: Any, fresh: Any) -> None:
    """Raise TypeError or ValueError unless `saved` has the types, lengths and shapes of `fresh`, all finite.

    Keys that only one of two dicts has are not compared.
    """
    if type(saved) is not type(fresh):
        raise TypeError(f"{type(saved).__name__} instead of {type(fresh).__name__}")
    if isinstance(fresh, Tensor):
        if (saved.shape, saved.dtype) != (fresh.shape, fresh.dtype) or not torch.isfinite(saved).all():
            raise ValueError("a tensor of another shape or type, or not finite")
    elif isinstance(fresh, dict):
        for key in fresh.keys() & saved.keys():
            require_alike(saved[key], fresh[key])
    elif isinstance(fresh, list | tuple):
        for one, other in zip(saved, fresh, strict=True):
            require_alike(one, other)
    elif isinstance(fresh, float) and not math.isfinite(saved):
        raise ValueError("a number that is not finite")


def require_fitting_memory(optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError or TypeError unless what the optimizer remembers has the shapes of its parameters."""
    parameters = {id(p) for group in optimizer.param_groups for p in group["params"]}
    names = _MEMORY[type(optimizer)]
    for parameter, memory in optimizer.state.items():
        if id(parameter) not in parameters or (memory and memory.keys() != names):
            raise ValueError("the optimizer's memory is of other parameters")
        for name, value in memory.items():
            if name == "momentum_buffer" and value is None:
                continue  # momentum is 0
            if not isinstance(value, Tensor) or value.shape != (() if name == "step" else parameter.shape):
                raise ValueError(f"{name} has another shape than its parameter")
