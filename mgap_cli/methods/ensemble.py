"""Separately trained networks of one modality each, whose probabilities are averaged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from torch import nn

from mgap_cli.methods.base import Method, cross_entropy

if TYPE_CHECKING:
    from mgap_cli.config import Config
    from mgap_cli.methods.base import Step
    from mgap_cli.model.network import MultimodalNetwork

PAPER = "Du et al., ICML 2023"


class Ensemble(Method):
    """CE(z_m, y) for each modality m alone; the decision is mean_m softmax(z_m) (UME; Du et al., ICML 2023).

    The branches share no parameter. Each branch has its own optimizer and takes its own step on each batch,
    so it is bit for bit the network that `unimodal` trains. The decision is the fusion `late-probability`.
    One epoch is kept for all branches: the best epoch of the decision.

    Only the abstract of the paper was available: the mean with equal weights is ours. We have not compared
    with the authors' program.
    """

    name = "ensemble"

    @classmethod
    def model(cls, config: Config) -> dict[str, Any]:
        return {"model.fusion": "late-probability", "model.unimodal": "heads"}

    def parameter_groups(self, network: MultimodalNetwork) -> dict[str, Iterable[nn.Parameter]]:
        return {
            m: [*network.encoders[m].parameters(), *network.head(m).parameters()] for m in network.encoders
        }

    def training_step(self, step: Step) -> None:
        for modality in step.network.encoders:
            outputs = step.forward(only=[modality])
            step.backward(cross_entropy(outputs.unimodal[modality], step.batch.labels))
            step.update(modality)
