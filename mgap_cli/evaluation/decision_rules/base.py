"""The protocol of a decision rule, which computes class probabilities from all heads' log-probabilities.

To add a rule, write one file here with a subclass of `DecisionRule` whose `name` is the file's name (with `-`
for `_`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from mgap_cli.errors import UnfitError
from mgap_cli.gap.scores import FUSED
from mgap_cli.stats.arrays import FloatArray, IntArray

Heads = Mapping[str, FloatArray]  # log-probabilities (N, C) of the fused head and of each modality


class DecisionRule:
    """Base class of every rule.

    name: as on the command line. learns: `fit` learns parameters on validation; such a rule may not be judged
    on the samples that it was fitted on.
    """

    name: ClassVar[str] = ""
    learns: ClassVar[bool] = False

    @classmethod
    def fit(cls, heads: Heads, labels: IntArray) -> DecisionRule:
        """Return the rule with what it learns from the validation split; labels: (N,), N >= 1."""
        return cls()

    def combine(self, heads: Heads) -> FloatArray:
        """Return probabilities (N, C), which sum to 1 over the classes.

        Missing heads are ignored. If none of the heads that a rule needs is present, it takes the mean of the
        others.
        """
        raise NotImplementedError

    def parameters(self) -> dict[str, object]:
        """Return what the rule learned, as plain values by name."""
        return {}


def unimodal(heads: Heads) -> dict[str, FloatArray]:
    """Return the unimodal heads, or the fused head if it is alone; UnfitError without any head."""
    _require_any(heads)
    return {head: log_p for head, log_p in heads.items() if head != FUSED} or dict(heads)


def mean_probability(heads: Heads) -> FloatArray:
    """Return the mean over heads of their probabilities (N, C); UnfitError without any head."""
    _require_any(heads)
    return np.asarray(np.mean([np.exp(log_p) for log_p in heads.values()], axis=0))


def _require_any(heads: Heads) -> None:
    if not heads:
        raise UnfitError("A decision rule needs the predictions of at least one head, and there are none.")
