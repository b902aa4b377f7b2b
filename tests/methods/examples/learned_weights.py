"""A method with its own parameters: each loss has a learned weight (Kendall et al., CVPR 2018)."""

import torch
from torch import nn

from mgap_cli.methods.base import Method, cross_entropy


class LearnedWeights(Method):
    """L = sum_h exp(-s_h) CE(z_h, y) + s_h over all heads h, with learned s_h."""

    name = "learned-weights"

    def build(self, network, samples):
        super().build(network, samples)
        self.log_variance = nn.ParameterDict({head: torch.zeros(()) for head in network.head_names})

    def loss(self, outputs, batch):
        losses = {head: cross_entropy(z, batch.labels) for head, z in outputs.logits.items()}
        return sum(
            torch.exp(-self.log_variance[h]) * loss + self.log_variance[h] for h, loss in losses.items()
        )
