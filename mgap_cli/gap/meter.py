"""The diagnosis for a loop over batches, with the interface of a torchmetrics metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mgap_cli.config import GapConfig
from mgap_cli.errors import MgapError, UnfitError
from mgap_cli.gap.arrays import as_array, require_form
from mgap_cli.gap.mixture import GapFit, analyse
from mgap_cli.gap.score_table import ScoreForm, order_of, table_of
from mgap_cli.gap.scores import Scores, check_unique


class GapMeter:
    """Collects the scores of batches; `compute` returns the result of `measure` for all of them.

    form: "p" for probabilities of the true class (N,) or of all classes (N, C); "logits" for logits (N, C).
    classes: the names of the C classes. Each batch is checked at once. Of (N, C) scores only the measured
    numbers are kept, on the CPU. The meter does not gather scores from several processes: gather them first.
    """

    def __init__(
        self, *, form: ScoreForm = "p", classes: Sequence[str] | None = None, config: GapConfig | None = None
    ) -> None:
        require_form(form)
        self.form = form
        self.classes = classes
        self.config = config or GapConfig()
        self._batches: list[Scores] = []
        self._named = False

    def __len__(self) -> int:
        """Return the number of samples since the last reset."""
        return sum(map(len, self._batches))

    def update(self, labels: Any, /, *, ids: Sequence[str] | None = None, **scores: Any) -> None:
        """Add a batch: labels (N,) and the scores of each modality by its name, as `measure` takes them.

        Samples without `ids` are numbered in their order. A refused batch adds nothing. Raises UnfitError for
        invalid scores, shapes or labels, and for a batch that differs from the first one in its modalities,
        in its number of classes or in having ids; UsageError for fewer than two modalities.
        """
        given = as_array(labels)
        numbered = [str(len(self) + i) for i in range(given.size)]
        heads = {name: (self.form, as_array(values)) for name, values in scores.items()}
        number = len(self._batches) + 1
        try:
            batch = table_of(given, heads, ids=numbered if ids is None else ids, classes=self.classes)
        except MgapError as error:
            raise type(error)(f"Batch {number}: {error.message}", error.hint) from None
        if self._batches:
            self._require_alike(batch, ids is not None, number)
            batch = replace(batch, p={name: batch.p[name] for name in self._batches[0].p})
        self._named = ids is not None
        self._batches.append(batch)

    def compute(self) -> GapFit:
        """Return the mixture over all samples since the last reset; the batches are kept.

        Raises UnfitError if there are none, or if two have the same id.
        """
        if not self._batches:
            raise UnfitError(
                "GapMeter has no samples to compute from.",
                "Call update(labels, audio=..., visual=...) for each batch first.",
            )
        return analyse(_joined(self._batches), self.config)

    def reset(self) -> None:
        """Forget all batches."""
        self._batches.clear()

    def _require_alike(self, batch: Scores, named: bool, number: int) -> None:
        first = self._batches[0]
        for what, here, there in (
            ("modalities", _names(batch.p), _names(first.p)),
            ("heads with scores of all classes", _names(batch.predicted), _names(first.predicted)),
            ("fused scores", _given(batch.p_fused is not None), _given(first.p_fused is not None)),
            ("ids", _given(named), _given(self._named)),
        ):
            if here != there:
                raise UnfitError(f"Batch {number} has {what}: {here}; those before it: {there}.", _ALIKE)
        if first.predicted and batch.classes != first.classes:
            raise UnfitError(
                f"Batch {number} has {len(batch.classes)} classes; those before it: {len(first.classes)}.",
                _ALIKE,
            )


_ALIKE = "Give every batch the same modalities and forms of scores, or call reset() before a different one."


def _names(heads: Sequence[str] | dict[str, Any]) -> str:
    return ", ".join(sorted(heads)) or "none"


def _given(is_given: bool) -> str:
    return "given" if is_given else "none"


def _joined(batches: list[Scores]) -> Scores:
    """Return the rows of all batches, which have the same heads, as one table."""
    first = batches[0]
    ids = [name for batch in batches for name in batch.ids]
    check_unique(ids)
    # With true-class scores and without `classes`, each batch knows only its own classes.
    every = {batch.classes: None for batch in batches}
    classes = first.classes if len(every) == 1 else tuple(order_of([*{c: None for b in every for c in b}]))
    position = {name: i for i, name in enumerate(classes)}
    labels = [np.array([position[name] for name in batch.classes])[batch.labels] for batch in batches]
    fused = [batch.p_fused for batch in batches if batch.p_fused is not None]
    return replace(
        first,
        ids=ids,
        classes=classes,
        labels=np.concatenate(labels),
        p={name: np.concatenate([batch.p[name] for batch in batches]) for name in first.p},
        predicted={
            head: np.concatenate([batch.predicted[head] for batch in batches]) for head in first.predicted
        },
        p_fused=np.concatenate(fused) if fused else None,
        certainty={
            head: np.concatenate([batch.certainty[head] for batch in batches]) for head in first.certainty
        },
    )
