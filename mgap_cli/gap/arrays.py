"""The diagnosis as one call, for programs that have scores as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mgap_cli.config import GapConfig
from mgap_cli.gap.mixture import GapFit, analyse
from mgap_cli.gap.score_table import table_of


def measure(
    labels: Any,
    *,
    ids: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    config: GapConfig | None = None,
    **scores: Any,
) -> GapFit:
    """Return the gaps of two or more modalities, their mixture and each sample's posterior of imbalance.

    labels: (N,) class indices or names. scores: modalities by name, each (N,) probabilities of the
    true class or (N, C) probabilities of all; the gap of two is the first minus the second, of more the mean
    over pairs (see `gap.scores`). The fit's arrays are in the order given. Raises UnfitError for invalid
    scores, UsageError for fewer than two.
    """
    table = table_of(
        labels, {name: ("p", values) for name, values in scores.items()}, ids=ids, classes=classes
    )
    return analyse(table, config or GapConfig())
