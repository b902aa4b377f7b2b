"""Gradients at each encoder: do the fused loss and the encoder's unimodal loss pull in one direction?

Let theta_m be all parameters of encoder m, g_m = d CE(z, y) / d theta_m the gradient of the fused loss and
h_m = d CE(z_m, y) / d theta_m the gradient of the unimodal loss. Each batch gives

    cosine      <g_m, h_m> / (|g_m| |h_m|): at 1 the fusion teaches the encoder what its own task would, below
                0 it works against it (gradient conflict as in Yu et al., Gradient Surgery for Multi-Task
                Learning, NeurIPS 2020)
    norm        |g_m|: how much of the joint training reaches an encoder (ratio: ours)
    norm ratio  |g_m| / |h_m|: of what its own loss would give, how much the fused loss does (ours)

The tables show means over batches (geometric means of norms) with Student's t interval over batches. Batches
are as large as in training and drawn without replacement. Batch normalisation is in eval mode, so that it
neither uses nor updates the statistics of a batch. Neither weights nor .grad are changed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from mgap_cli.analysis.measures.measure import Measure
from mgap_cli.stats.arrays import FloatArray
from mgap_cli.stats.intervals import Interval, student_interval

if TYPE_CHECKING:
    from mgap_cli.data.loading.loader import Batch
    from mgap_cli.model.network import MultimodalNetwork

COSINE_SOURCE = "conflict as in Yu et al., NeurIPS 2020"
NORM_SOURCE = "ours"


@dataclass(frozen=True)
class Gradients:
    """Arrays (K, 2) for K batches and the encoders of the first and the second modality."""

    cosine: FloatArray  # NaN where a gradient is 0
    fused_norm: FloatArray
    unimodal_norm: FloatArray


def gradients(network: MultimodalNetwork, batches: Iterable[Batch]) -> Gradients:
    """Compare the gradients of each batch; the network, with its mode, is unchanged afterwards."""
    was_training = network.training
    network.eval()
    encoders = list(network.encoders.values())
    rows = []
    try:
        with torch.enable_grad():
            for batch in batches:
                outputs = network(batch.inputs)
                fused = nn.functional.cross_entropy(outputs.fused.float(), batch.labels)
                unimodal = [
                    nn.functional.cross_entropy(z.float(), batch.labels) for z in outputs.unimodal.values()
                ]
                row = []
                for encoder, loss in zip(encoders, unimodal, strict=True):
                    g, h = _flat_gradient(fused, encoder), _flat_gradient(loss, encoder)
                    size_g, size_h = float(g.norm()), float(h.norm())
                    product = size_g * size_h
                    row.append((float(g @ h) / product if product > 0 else math.nan, size_g, size_h))
                rows.append(row)
    finally:
        network.train(was_training)
    table = np.array(rows, dtype=np.float64).reshape(len(rows), 2, 3)
    return Gradients(np.clip(table[..., 0], -1, 1), table[..., 1], table[..., 2])


def gradient_measures(gradients: Gradients, confidence: float) -> list[Measure]:
    """Return cosine, norm and norm ratio over the batches in which they exist."""
    positive = (gradients.fused_norm > 0).all(axis=1) & (gradients.unimodal_norm > 0).all(axis=1)
    cosine, fused, unimodal = (
        gradients.cosine[positive],
        gradients.fused_norm[positive],
        gradients.unimodal_norm[positive],
    )
    n = len(cosine)
    a, b = (cosine[:, m].mean() if n else None for m in (0, 1))
    along = Measure(
        "gradient_cosine",
        "gradient cosine",
        None if a is None else float(a),
        None if b is None else float(b),
        "difference",
        None if a is None or b is None else float(a - b),
        student_interval(cosine[:, 0] - cosine[:, 1], confidence),
        n,
        COSINE_SOURCE,
        "batches",
    )
    return [
        along,
        _of_logs("gradient_norm", "gradient norm, fused", np.log(fused), confidence),
        _of_logs(
            "gradient_norm_ratio", "grad. norm, fused/own", np.log(fused) - np.log(unimodal), confidence
        ),
    ]


def _of_logs(key: str, name: str, logs: FloatArray, confidence: float) -> Measure:
    n = len(logs)
    if not n:
        return Measure(key, name, None, None, "ratio", None, None, 0, NORM_SOURCE, "batches")
    first, second = (float(np.exp(logs[:, m].mean())) for m in (0, 1))
    difference = logs[:, 0] - logs[:, 1]
    spread = student_interval(difference, confidence)
    interval = Interval(math.exp(spread.low), math.exp(spread.high)) if spread else None
    value = math.exp(float(difference.mean()))
    return Measure(key, name, first, second, "ratio", value, interval, n, NORM_SOURCE, "batches")


def _flat_gradient(loss: Tensor, encoder: nn.Module) -> Tensor:
    """Return the gradient of a loss with respect to an encoder's parameters, (P,) float64 on the CPU."""
    parameters = [p for p in encoder.parameters() if p.requires_grad]
    parts = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    flat = [
        (torch.zeros_like(p) if part is None else part).reshape(-1).double().cpu()
        for p, part in zip(parameters, parts, strict=True)
    ]
    return torch.cat(flat)
