"""The diagnosis in one call, for programs that have scores as arrays or tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from mgap_cli.config import GapConfig
from mgap_cli.errors import UsageError
from mgap_cli.gap.mixture import GapFit, analyse
from mgap_cli.gap.score_table import ScoreForm, table_of


def measure(
    labels: Any,
    *,
    form: ScoreForm = "p",
    ids: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    config: GapConfig | None = None,
    **scores: Any,
) -> GapFit:
    """Return the gaps of two or more modalities, their mixture and each sample's posterior of imbalance.

    labels: (N,) class indices or names. scores: by modality, (N,) probabilities of the true class, (N, C)
    probabilities of all classes, or (N, C) logits with form="logits"; `fused` is the head of all modalities.
    Arrays, lists and tensors of every float type and device are accepted, with or without gradients; no
    gradient is computed. The gap of two modalities is the first minus the second; the gap of more is the mean
    over pairs (see `gap.scores`). The fit's arrays have the order of the samples. Raises UnfitError for
    invalid scores, shapes or labels, UsageError for fewer than two modalities and an unknown form.
    """
    require_form(form)
    heads = {name: (form, as_array(values)) for name, values in scores.items()}
    table = table_of(as_array(labels), heads, ids=ids, classes=classes)
    return analyse(table, config or GapConfig())


def require_form(form: str) -> None:
    """Raise UsageError unless `form` is a form of scores."""
    if form not in get_args(ScoreForm):
        raise UsageError(
            f"form={form!r} is not a form of scores.",
            "Give form='p' for probabilities, form='logits' for logits.",
        )


def as_array(values: Any) -> np.ndarray[Any, Any]:
    """Return array-like values or a tensor as an array in the host's memory; floats become float64.

    A tensor is recognised by its methods, so that a program without tensors does not load torch.
    """
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        # numpy has neither bfloat16 nor float8, and some devices have no float64.
        values = (values.double() if values.is_floating_point() else values).numpy()
    return np.asarray(values)
