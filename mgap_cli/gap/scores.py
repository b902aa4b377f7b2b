"""The per-sample table that every analysis starts from: the probability of the true class by each modality.

p_m,i is the probability that the unimodal head of modality m, one of M, gives the true class of sample i.

    two modalities     signed gap g_i = p_1,i - p_2,i, absolute gap u_i = |g_i|
    three or more      every pair has its signed gap; the sample's gap is absolute, the mean over the pairs:
                       u_i = 2 / (M (M - 1)) sum_{m < k} |p_m,i - p_k,i|

The mean over pairs is ours. Like |gap| of two modalities, it is in [0, 1]. The smallest standard deviation of
a component, the numbers and the borders therefore mean the same for any number of modalities.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mgap_cli.errors import UnfitError, UsageError
from mgap_cli.stats.arrays import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from mgap_cli.model.inference import Predictions

FUSED = "fused"  # the head of all modalities, whose predictions and loss are used

_NO_NAME = re.compile("[\0\n\r\ud800-\udfff]")


@dataclass(frozen=True)
class Scores:
    """One row per sample.

    labels: (N,) index into `classes`. p: by modality, the (N,) true-class probabilities of its unimodal head,
    p_m,i = softmax(z_m,i)[y_i]; tables and figures keep this order of the modalities. predicted: by head
    ("fused" or a modality), the (N,) classes that it predicts; empty for scores without predictions. columns:
    other columns of the samples, N values as text by name. p_fused: (N,) true-class probabilities of the
    fused head, if they are known. certainty: by head, the (N, 3) result of `certainty_of`; empty for scores
    of the true class only. Raises UnfitError, with the number of invalid scores and the id of the first, for
    scores that are not finite or not in [0, 1].
    """

    ids: list[str]
    classes: tuple[str, ...]
    labels: IntArray
    p: dict[str, FloatArray]
    predicted: dict[str, IntArray] = field(default_factory=dict)
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    p_fused: FloatArray | None = None
    certainty: dict[str, FloatArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, p in self.p.items():
            check_probabilities(name, p, self.ids)
        if self.p_fused is not None:
            check_probabilities(FUSED, self.p_fused, self.ids)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Return the names of the modalities, in their order."""
        return tuple(self.p)

    @property
    def gap(self) -> FloatArray:
        """Return the modality gap of each sample, (N,); see the module.

        With two modalities it is signed, the first minus the second, in [-1, 1]. With more it is absolute, in
        [0, 1].
        """
        return gap_of(self.p)

    @property
    def gap_formula(self) -> str:
        """Return the gap of these modalities in words, for labels of axes and notes."""
        return gap_formula(self.modalities)

    @property
    def fused_loss(self) -> FloatArray | None:
        """Return the fused head's cross-entropy -ln p by sample, (N,), in nats; None if it is not known."""
        return None if self.p_fused is None else -np.log(np.maximum(self.p_fused, np.finfo(np.float64).tiny))

    @property
    def fused_margin(self) -> FloatArray | None:
        """Return the fused head's p of the true class minus its highest p of another class, (N,), in [-1, 1].

        It is negative if the prediction is wrong; None for scores of the true class only.
        """
        if self.p_fused is None or FUSED not in self.certainty:
            return None
        highest, _, second = self.certainty[FUSED].T
        return np.asarray(self.p_fused - np.where(self.p_fused >= highest, second, highest))

    def leads(self, modality: str) -> BoolArray:
        """Return (N,) whether this modality alone has the highest probability of the true class."""
        others = [p for name, p in self.p.items() if name != modality]
        return np.asarray(np.all([self.p[modality] > p for p in others], axis=0))

    def lags(self, modality: str) -> BoolArray:
        """Return (N,) whether every other modality has a higher probability of the true class."""
        others = [p for name, p in self.p.items() if name != modality]
        return np.asarray(np.all([self.p[modality] < p for p in others], axis=0))

    def by_leader(self) -> list[tuple[str, BoolArray]]:
        """Return each modality with the (N,) samples in which it leads, then those in which none does."""
        led = {name: self.leads(name) for name in self.p}
        return [*led.items(), ("", ~np.any(list(led.values()), axis=0))]

    def of_split(self, split: str) -> Scores:
        """Return the rows whose column `split` has this value; UsageError if there are none."""
        values = self.columns.get("split")
        if values is None:
            raise UsageError("--split: the scores have no column split.")
        rows = [i for i, value in enumerate(values) if value == split]
        if not rows:
            raise UsageError(
                f"--split {split}: it has no samples; the splits are {', '.join(sorted(set(values)))}."
            )
        return Scores(
            [self.ids[i] for i in rows],
            self.classes,
            self.labels[rows],
            {name: p[rows] for name, p in self.p.items()},
            {name: c[rows] for name, c in self.predicted.items()},
            {name: [texts[i] for i in rows] for name, texts in self.columns.items()},
            None if self.p_fused is None else self.p_fused[rows],
            {name: c[rows] for name, c in self.certainty.items()},
        )

    def pairs(self) -> list[Scores]:
        """Return the scores of every two modalities, in their order."""
        return [self.of_modalities(names) for names in combinations(self.p, 2)]

    def of_modalities(self, names: Sequence[str]) -> Scores:
        """Return the scores of some of the modalities, in the order of `names`."""
        return replace(
            self,
            p={name: self.p[name] for name in names},
            predicted={head: c for head, c in self.predicted.items() if head == FUSED or head in names},
            certainty={head: c for head, c in self.certainty.items() if head == FUSED or head in names},
        )

    def __len__(self) -> int:
        return len(self.ids)


def gap_of(p: Mapping[str, FloatArray]) -> FloatArray:
    """Return the gap (N,) of true-class probabilities (N,) by modality, two or more; see the module."""
    if len(p) == 2:
        first, second = p.values()
        return first - second
    return np.asarray(np.mean([np.abs(a - b) for a, b in combinations(p.values(), 2)], axis=0))


def gap_formula(modalities: Sequence[str]) -> str:
    """Return the gap in words, for labels of axes and notes."""
    if len(modalities) == 2:
        return f"p({modalities[0]}) - p({modalities[1]})"
    return f"mean difference of p over the pairs of {', '.join(modalities)}"


def check_names(what: str, names: Iterable[str]) -> None:
    """Raise UnfitError for an id or label that is empty, has a NUL or a line break, or is not Unicode text.

    Names go into tables with one row per sample and into lists with one id per line.
    """
    every = list(names)
    if "" in every:
        raise UnfitError(f"sample {every.index('') + 1} has an empty {what}.")
    if _NO_NAME.search("".join(every)):  # one search in all names is ten times faster
        first = next(filter(_NO_NAME.search, every))
        raise UnfitError(f"{what} {first!r} has a NUL, a line break or text that is not valid Unicode.")


def check_unique(ids: Sequence[str]) -> None:
    """Raise UnfitError unless there are ids, and no two are the same."""
    if not len(ids):
        raise UnfitError("There are no samples.", "Give at least one label, and the scores of its sample.")
    distinct = len(set(ids))
    if distinct < len(ids):
        first, _ = Counter(ids).most_common(1)[0]
        raise UnfitError(
            f"{len(ids) - distinct} of {len(ids)} samples repeat an id of another, such as {first!r}.",
            "Give each sample one row, because mgap cannot choose between two.",
        )


def check_probabilities(name: str, p: FloatArray, ids: Sequence[str]) -> None:
    """Raise UnfitError unless (N,) or (N, C) scores of a modality are finite and lie in [0, 1]."""

    def refuse(bad: npt.NDArray[np.bool_], what: str, hint: str) -> None:
        rows = bad.any(axis=1) if bad.ndim > 1 else bad
        count = int(np.count_nonzero(rows))
        if count:
            first = ids[int(np.argmax(rows))]
            raise UnfitError(f"{count} of {len(p)} {name} scores {what}, such as that of {first!r}.", hint)

    refuse(
        ~np.isfinite(p),
        "are NaN or infinite",
        "The model that made them diverged: train it again with a lower learning rate.",
    )
    # Softmax in float32 may exceed 1 by a rounding error.
    refuse(
        (p < 0) | (p > 1 + 1e-6),
        "lie outside [0, 1]",
        f"Logits go in columns or arrays that are named logits_{name}; in Python: form='logits'.",
    )


def true_class_probability(probabilities: FloatArray, labels: IntArray) -> FloatArray:
    """Return (N,) probabilities of the true classes from an (N, C) table."""
    return np.asarray(probabilities[np.arange(len(labels)), labels], dtype=np.float64)


def certainty_of(probabilities: FloatArray) -> FloatArray:
    """Return (N, 3) for (N, C) probabilities: the highest, Shannon's entropy in nats, and the second highest.

    The entropy takes 0 log 0 as 0. With a single class, the second highest probability is 0.
    """
    from scipy.special import entr

    entropy = entr(np.clip(probabilities, 0, 1)).sum(axis=1)
    highest, second = probabilities.max(axis=1), np.zeros(len(probabilities))
    if probabilities.shape[1] > 1:
        second = np.partition(probabilities, -2, axis=1)[:, -2]
    return np.stack([highest, entropy, second], axis=1).astype(np.float64)


def scores_of(
    predictions: Predictions,
    ids: list[str],
    classes: tuple[str, ...],
    columns: Mapping[str, Sequence[str]] | None = None,
) -> Scores:
    """Return the table for a pass over samples; `ids` and `columns` are those of the whole store."""
    fused = predictions.probabilities.get(FUSED)
    return Scores(
        ids=[ids[i] for i in predictions.index],
        classes=classes,
        labels=predictions.labels,
        p={
            head: true_class_probability(p, predictions.labels)
            for head, p in predictions.probabilities.items()
            if head != FUSED
        },
        predicted={h: p.argmax(axis=1).astype(np.int64) for h, p in predictions.probabilities.items()},
        columns={name: [values[i] for i in predictions.index] for name, values in (columns or {}).items()},
        p_fused=true_class_probability(fused, predictions.labels) if fused is not None else None,
        certainty={head: certainty_of(p) for head, p in predictions.probabilities.items()},
    )
