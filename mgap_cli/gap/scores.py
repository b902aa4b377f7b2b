"""The per-sample table that every diagnosis starts from: how likely each modality finds the true class."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mgap_cli.errors import UnfitError
from mgap_cli.modalities.audio_visual import AUDIO, VISUAL
from mgap_cli.stats.arrays import FloatArray, IntArray

if TYPE_CHECKING:
    from mgap_cli.model.inference import Predictions

MODALITIES = (AUDIO.name, VISUAL.name)  # of our own networks; other models' are named freely

_NO_NAME = re.compile("[\0\n\r\ud800-\udfff]")


@dataclass(frozen=True)
class Scores:
    """One row per sample.

    labels: (N,) index into `classes`. p_audio, p_visual: (N,) true-class probabilities of the
    unimodal heads, p_m,i = softmax(z_m,i)[y_i]; where `modalities` are others, those of the first and
    of the second. predicted: head ("fused" or a modality) to the (N,) class it names; empty for scores
    that came without predictions. columns: what else is known of the samples, name to N values as text.
    p_fused: (N,) true-class probabilities of the fused head, where they are known. certainty: modality
    to (N, 2), its highest probability and its entropy; empty for scores of the true class alone.
    Raises UnfitError, with the number of culprits and the first one's id, for scores that are not
    finite or not in [0, 1].
    """

    ids: list[str]
    classes: tuple[str, ...]
    labels: IntArray
    p_audio: FloatArray
    p_visual: FloatArray
    predicted: dict[str, IntArray] = field(default_factory=dict)
    modalities: tuple[str, str] = MODALITIES
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    p_fused: FloatArray | None = None
    certainty: dict[str, FloatArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, p in zip(self.modalities, (self.p_audio, self.p_visual), strict=True):
            check_probabilities(name, p, self.ids)
        if self.p_fused is not None:
            check_probabilities("fused", self.p_fused, self.ids)

    @property
    def gap(self) -> FloatArray:
        """Signed modality gap g_i = p_audio,i - p_visual,i, (N,), in [-1, 1]: the first minus the second."""
        return self.p_audio - self.p_visual

    def __len__(self) -> int:
        return len(self.ids)


def check_names(what: str, names: Iterable[str]) -> None:
    """Raise UnfitError for an id or label that is empty, has a NUL or a line break, or is not Unicode text.

    Names go into tables with one row per sample and into lists with one id per line.
    """
    every = list(names)
    if "" in every:
        raise UnfitError(f"sample {every.index('') + 1} has an empty {what}.")
    if _NO_NAME.search("".join(every)):  # one search is ten times faster than one for each name
        first = next(filter(_NO_NAME.search, every))
        raise UnfitError(f"{what} {first!r} has a NUL, a line break or text that is not valid Unicode.")


def check_unique(ids: Sequence[str]) -> None:
    """Raise UnfitError unless there are ids, and no two are the same."""
    if not len(ids):
        raise UnfitError("There are no samples.")
    distinct = len(set(ids))
    if distinct < len(ids):
        first, _ = Counter(ids).most_common(1)[0]
        raise UnfitError(
            f"{len(ids) - distinct} of {len(ids)} samples have an id that another has, such as {first!r}.",
            "Give each sample one row: which of its scores counts is not ours to choose.",
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
    # Softmax in float32 may end a rounding error above 1.
    refuse(
        (p < 0) | (p > 1 + 1e-6),
        "lie outside [0, 1]",
        f"Logits go in columns or arrays that are named logits_{name}.",
    )


def true_class_probability(probabilities: FloatArray, labels: IntArray) -> FloatArray:
    """Return (N,) probabilities of the true classes out of an (N, C) table."""
    return np.asarray(probabilities[np.arange(len(labels)), labels], dtype=np.float64)


def certainty_of(probabilities: FloatArray) -> FloatArray:
    """Return (N, 2) of (N, C) probabilities: the highest one, and Shannon's entropy in nats (0 log 0 = 0)."""
    from scipy.special import entr

    entropy = entr(np.clip(probabilities, 0, 1)).sum(axis=1)
    return np.stack([probabilities.max(axis=1), entropy], axis=1).astype(np.float64)


def scores_of(
    predictions: Predictions,
    ids: list[str],
    classes: tuple[str, ...],
    columns: Mapping[str, Sequence[str]] | None = None,
) -> Scores:
    """Return the table for a pass over samples; `ids` and `columns` are the store's, all of them."""
    audio, visual = (predictions.probabilities[m] for m in ("audio", "visual"))
    fused = predictions.probabilities.get("fused")
    return Scores(
        ids=[ids[i] for i in predictions.index],
        classes=classes,
        labels=predictions.labels,
        p_audio=true_class_probability(audio, predictions.labels),
        p_visual=true_class_probability(visual, predictions.labels),
        predicted={h: p.argmax(axis=1).astype(np.int64) for h, p in predictions.probabilities.items()},
        columns={name: [values[i] for i in predictions.index] for name, values in (columns or {}).items()},
        p_fused=true_class_probability(fused, predictions.labels) if fused is not None else None,
    )
