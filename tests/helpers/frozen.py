"""Batch norm with frozen statistics.

The statistics of a share of a batch differ from those of the batch. If they are frozen, two processes must
train the same as one.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def with_frozen_batch_norm(train: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Return a module's `train` that leaves every batch norm in eval mode."""

    def train_frozen(self: nn.Module, mode: bool = True) -> nn.Module:
        train(self, mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.eval()
        return self

    return train_frozen
