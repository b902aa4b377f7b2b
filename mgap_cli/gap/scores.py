"""The per-sample table that every diagnosis starts from: how likely each modality finds the true class."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mgap_cli.errors import UnfitError

if TYPE_CHECKING:
    from mgap_cli.model.inference import Predictions

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Scores:
    """One row a sample.

    labels: (N,) index into `classes`. p_audio, p_visual: (N,) true-class probabilities of the
    unimodal heads, p_m,i = softmax(z_m,i)[y_i]. predicted: head ("fused", "audio", "visual") to the
    (N,) class it names; empty for scores that came without predictions.
    Raises UnfitError, with the number of culprits, for scores that are not finite or not in [0, 1].
    """

    ids: list[str]
    classes: tuple[str, ...]
    labels: IntArray
    p_audio: FloatArray
    p_visual: FloatArray
    predicted: dict[str, IntArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, p in (("audio", self.p_audio), ("visual", self.p_visual)):
            bad = int(np.count_nonzero(~np.isfinite(p)))
            if bad:
                raise UnfitError(
                    f"{bad} of {len(p)} {name} scores are NaN or infinite.",
                    "The model that made them diverged: train it again with a lower learning rate.",
                )
            # Softmax in float32 may end a rounding error above 1.
            outside = int(np.count_nonzero((p < 0) | (p > 1 + 1e-6)))
            if outside:
                raise UnfitError(f"{outside} of {len(p)} {name} scores lie outside [0, 1].")

    @property
    def gap(self) -> FloatArray:
        """Signed modality gap g_i = p_audio,i - p_visual,i, (N,), in [-1, 1]."""
        return self.p_audio - self.p_visual

    def __len__(self) -> int:
        return len(self.ids)


def true_class_probability(probabilities: FloatArray, labels: IntArray) -> FloatArray:
    """Return (N,) probabilities of the true classes out of an (N, C) table."""
    return np.asarray(probabilities[np.arange(len(labels)), labels], dtype=np.float64)


def scores_of(predictions: Predictions, ids: list[str], classes: tuple[str, ...]) -> Scores:
    """Return the table for a pass over samples; `ids` are the store's, all of them."""
    audio, visual = (predictions.probabilities[m] for m in ("audio", "visual"))
    return Scores(
        ids=[ids[i] for i in predictions.index],
        classes=classes,
        labels=predictions.labels,
        p_audio=true_class_probability(audio, predictions.labels),
        p_visual=true_class_probability(visual, predictions.labels),
        predicted={h: p.argmax(axis=1).astype(np.int64) for h, p in predictions.probabilities.items()},
    )
