"""What a method may do before an epoch: score a split, read features, start a module again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

from mgap_cli.data.loading.loader import generator_for
from mgap_cli.gap.held_out import held_out_scores
from mgap_cli.model.network import MultimodalNetwork, initialise

if TYPE_CHECKING:
    import numpy as np

    from mgap_cli.gap.scores import Scores
    from mgap_cli.methods.base import BudgetEpoch
    from mgap_cli.model.inference import Predictions
    from mgap_cli.training.optimizers import Optimizers
    from mgap_cli.training.task import Task

_RESET = 2  # the last counter of these draws; that of the training steps is 1


@dataclass
class TrainingEpoch:
    """The start of an epoch; `methods.base.EpochContext` describes it for methods.

    budget_epoch: the epoch's place in the budget of all stages. predict: runs a network over a split, in
    all processes together; the flag asks for features too.
    """

    epoch: int
    budget_epoch: BudgetEpoch
    seed: int
    task: Task
    optimizers: Optimizers
    predict: Callable[[str, bool, MultimodalNetwork], tuple[Predictions, Scores]]
    resets: int = field(default=0, init=False)

    @property
    def network(self) -> MultimodalNetwork:
        """The network that is trained."""
        return self.task.network

    def scores(self, split: str = "train") -> tuple[Scores, np.ndarray]:
        """Return the scores of a split in eval mode, and the positions of its samples in the store."""
        predictions, scores = self.predict(split, False, self.network)
        return scores, predictions.index

    def held_out_scores(self) -> tuple[Scores, np.ndarray]:
        """Return the cross-fitted scores of the training split, and its positions in the store."""
        predictions, scores = self.predict("train", True, self.network)
        return held_out_scores(predictions, scores), predictions.index

    def predictions(self, split: str = "train", network: MultimodalNetwork | None = None) -> Predictions:
        """Return the probabilities of every head and the features of a split, in eval mode."""
        return self.predict(split, True, network or self.network)[0]

    def reset(self, module: nn.Module) -> None:
        """Draw new initial weights for a module, and clear what the optimizers remember of its parameters.

        The draw depends on the seed, the epoch and the number of resets before it in this epoch, so that
        every process and every resumed run draws the same.
        """
        seed = generator_for(self.seed, self.epoch, self.resets, _RESET).initial_seed()
        self.resets += 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for part in module.modules():
                if callable(draw := getattr(part, "reset_parameters", None)):
                    draw()
            module.apply(initialise)
        self.optimizers.forget(module)
