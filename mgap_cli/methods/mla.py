"""Each modality in turn trains its encoder and a shared head, which does not forget the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mgap_cli.config import share
from mgap_cli.methods.base import Method, Needs, cross_entropy

if TYPE_CHECKING:
    from mgap_cli.config import Config
    from mgap_cli.methods.base import Step
    from mgap_cli.model.network import MultimodalNetwork

PAPER = "Zhang et al., CVPR 2024"


@dataclass(frozen=True)
class Settings:
    """regularisation: lambda of the projection at an epoch's start; it falls to its square at the end."""

    regularisation: float = share(0.1)


class Mla(Method):
    """Alternating unimodal training with a shared head (MLA; Zhang et al., CVPR 2024).

    For each batch, one modality m after the other, in the order of the store: CE(W f_m + b, y) trains m's
    encoder and the shared head by an optimizer step of its own. Before the step, with r (D,) the batch's mean
    of f_m, the gradient of W loses the directions that features took:

        k = P r,     P <- P - k k^T / (lambda + r^T k),     grad W <- grad W P^T,

    P = I at first and lambda = 0.1^(1 + i / N) in step i of the N of an epoch. The decision weighs the heads
    per sample by their entropy, fusion `late-entropy`. The method works with any number of modalities. The
    train loss is the sum over them; there is no fused training accuracy, because the modalities are never
    trained together.

    Buffer: projection (D, D), P. A batch whose features are not finite does not change it.

    In the authors' program (GitHub: Cecile-hi, Multimodal-Learning-with-Alternating-Unimodal-Adaptation) the
    projection looks for a parameter `module.weight`, but the head's parameter is called `weight`, so it seems
    never to run. It would divide by a matrix in place of lambda + r^T k, and scale P to Frobenius norm 1. Its
    entropy is one number for the whole batch, with the softmax over samples.
    """

    name = "mla"
    Settings = Settings
    needs = Needs(features=True)
    projection: Tensor

    @classmethod
    def model(cls, config: Config) -> dict[str, Any]:
        return {"model.fusion": "late-entropy", "model.unimodal": "shared"}

    def build(self, network: MultimodalNetwork, samples: int) -> None:
        super().build(network, samples)
        head = network.head(next(iter(network.encoders)))
        assert isinstance(head, nn.Linear)
        self.register_buffer("projection", torch.eye(head.in_features))

    def training_step(self, step: Step) -> None:
        for modality in step.network.encoders:
            outputs = step.forward(only=[modality])
            step.backward(cross_entropy(outputs.unimodal[modality], step.batch.labels))
            weight = step.network.head(modality).weight
            assert isinstance(weight, Tensor) and weight.grad is not None
            self._project(outputs.features[modality].detach().mean(dim=0), step.progress)
            weight.grad.copy_(weight.grad @ self.projection.T)
            step.update()

    def _project(self, mean: Tensor, progress: float) -> None:
        """Take the direction of a batch's mean features (D,) out of the projection."""
        k = self.projection @ mean
        strength = self.settings.regularisation ** (1 + progress)
        new = self.projection - torch.outer(k, k) / (strength + mean @ k)
        self.projection.copy_(torch.where(torch.isfinite(new).all(), new, self.projection))
