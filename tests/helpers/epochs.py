"""The start of an epoch with given predictions, for methods that act before an epoch."""

from __future__ import annotations

from dataclasses import dataclass

from mgap_cli.methods.base import BudgetEpoch
from mgap_cli.model.inference import Predictions
from mgap_cli.model.network import MultimodalNetwork


@dataclass
class PredictedEpoch:
    """The start of an epoch of a network whose training split has these predictions."""

    network: MultimodalNetwork
    given: Predictions
    budget_epoch: BudgetEpoch
    epoch: int = 0

    def predictions(self, split: str = "train") -> Predictions:
        assert split == "train"
        return self.given
