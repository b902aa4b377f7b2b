"""The contribution of each modality to the fused logits of any fusion, found by zeroing the other inputs.

Let v(S) be the fused logits if the modalities in S have their inputs and the others have zeros, and v(empty)
= 0. Then modality m contributes its Shapley value

    phi_m = sum over S without m of |S|! (M - |S| - 1)! / M! (v(S + m) - v(S)),

so that the contributions sum to the fused logits z. For two modalities this is AGM's attribution (Li et al.,
ICCV 2023): phi_a = (z - z_0v + z_a0) / 2. The extension to more modalities is ours; it needs 2^M - 2 further
passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import combinations
from math import comb
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

if TYPE_CHECKING:
    from mgap_cli.methods.base import Step
    from mgap_cli.model.network import Outputs


def zero_input_contributions(step: Step, fused: Tensor) -> dict[str, Tensor]:
    """Return phi_m (B, C) by modality; they sum to the fused logits `fused` (B, C) of the batch as it is.

    The passes with zeros run in the network's present mode. In train mode each normalises by its own batch: a
    gradient through running statistics could make the features grow without bound. Zeros never reach the
    running statistics themselves.
    """
    modalities = list(step.network.encoders)
    value: dict[frozenset[str], Tensor] = {frozenset(): torch.zeros_like(fused), frozenset(modalities): fused}
    with without_running_statistics(step.network):
        for size in range(1, len(modalities)):
            for kept in combinations(modalities, size):
                inputs = {m: x if m in kept else torch.zeros_like(x) for m, x in step.batch.inputs.items()}
                value[frozenset(kept)] = step.forward(inputs).fused
    return shapley_values(modalities, value)


def detached_contributions(step: Step, outputs: Outputs) -> dict[str, Tensor]:
    """Return phi_m (B, C) by modality without gradient: from an additive fusion, or by zeroing inputs."""
    if outputs.contributions:
        return {m: part.detach() for m, part in outputs.contributions.items()}
    with torch.no_grad():
        return zero_input_contributions(step, outputs.fused)


def shapley_values(modalities: list[str], value: Mapping[frozenset[str], Tensor]) -> dict[str, Tensor]:
    """Return phi_m by modality, given the value v(S) of every set of modalities, also the empty set."""
    return {m: _shapley(m, modalities, value) for m in modalities}


def _shapley(modality: str, modalities: list[str], value: Mapping[frozenset[str], Tensor]) -> Tensor:
    others = [m for m in modalities if m != modality]
    total = torch.zeros_like(value[frozenset()])
    for size in range(len(modalities)):
        weight = 1 / (len(modalities) * comb(len(others), size))
        for chosen in combinations(others, size):
            without = frozenset(chosen)
            total = total + weight * (value[without | {modality}] - value[without])
    return total


@contextmanager
def without_running_statistics(network: nn.Module) -> Iterator[None]:
    """Within the block, batch norms in train mode leave their running statistics unchanged."""
    tracking = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for module in tracking:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in tracking:
            module.track_running_stats = True
