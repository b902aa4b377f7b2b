"""The checked scores of any model, from a file or from arrays, for any number of modalities.

A modality's scores are its probabilities of the true class, (N,), or the probabilities or logits of all
classes, (N, C). Only the measured numbers are kept, so that a million samples fit in memory
with any number of classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from mgap_cli.errors import UnfitError, UsageError
from mgap_cli.gap.scores import (
    FUSED,
    Scores,
    certainty_of,
    check_names,
    check_probabilities,
    check_unique,
    true_class_probability,
)
from mgap_cli.stats.arrays import FloatArray, IntArray

ScoreForm = Literal["p", "logits"]
SUM_TOLERANCE = 5e-3  # of a row of probabilities: bfloat16 rounds each by up to 2^-8 of itself
_SHAPES = "Give labels (N,), and scores (N,) of the true class or (N, C) of all classes; logits are (N, C)."
_EXACT = 2**53  # up to here float64 represents every whole number


def table_of(
    labels: Any,
    heads: Mapping[str, tuple[ScoreForm, Any]],
    *,
    ids: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    columns: Mapping[str, Sequence[str]] | None = None,
) -> Scores:
    """Return the table of arrays: labels (N,), and for each head its form and its (N,) or (N, C) scores.

    Labels are class indices or names; `classes` names the C columns. Samples without `ids` are numbered
    from 0. Raises UnfitError for arrays that do not fit together, and the errors of `Scores`.
    """
    given = np.asarray(labels)
    if given.ndim != 1:
        raise UnfitError(f"The labels have shape {given.shape}; expected one for each sample.", _SHAPES)
    if given.dtype.kind == "f" and (given == np.round(given)).all() and (np.abs(given) <= _EXACT).all():
        given = given.astype(np.int64)  # indices that a data frame turned into floats
    if given.dtype.kind not in "iuUb":
        raise UnfitError(f"The labels are of type {given.dtype}.", "Labels are class indices or names.")
    names = [str(i) for i in range(len(given))] if ids is None else [str(i) for i in ids]
    if len(names) != len(given):
        raise UnfitError(f"{len(names)} ids, but {len(given)} labels.")
    check_names("id", names)
    check_unique(names)
    scores = {name: (form, np.asarray(values, dtype=np.float64)) for name, (form, values) in heads.items()}
    widths = set()
    for name, (form, values) in scores.items():
        if len(values.shape) not in (1, 2) or len(values) != len(given):
            raise UnfitError(
                f"The scores of {name} have shape {values.shape}; there are {len(given)} labels.", _SHAPES
            )
        if form == "logits" and values.ndim == 1:
            raise UnfitError(
                f"The logits of {name} have shape {values.shape}; expected those of all classes.", _SHAPES
            )
        widths |= set(values.shape[1:])
    if len(widths) > 1:
        raise UnfitError(
            f"The heads have different numbers of classes: {', '.join(map(str, sorted(widths)))}.", _SHAPES
        )
    class_names, index = _indexed(given, classes, widths.pop() if widths else None)
    p: dict[str, FloatArray] = {}
    predicted: dict[str, IntArray] = {}
    certainty: dict[str, FloatArray] = {}
    for name, (form, values) in scores.items():
        if values.ndim == 1:
            check_probabilities(name, values, names)
            p[name] = values
        else:
            full = probabilities_of(name, form, values, names)
            p[name], predicted[name] = true_class_probability(full, index), full.argmax(axis=1)
            certainty[name] = certainty_of(full)
    p_fused = p.pop(FUSED, None)
    require_two(p)
    return Scores(names, class_names, index, p, predicted, columns or {}, p_fused, certainty)


def probabilities_of(name: str, form: ScoreForm, values: FloatArray, ids: Sequence[str]) -> FloatArray:
    """Return an (n, C) matrix of probabilities, or of logits, as checked probabilities."""
    if form == "logits":
        bad = ~np.isfinite(values).all(axis=1)
        if bad.any():
            raise UnfitError(
                f"{bad.sum()} of {len(values)} rows of {name} logits have NaN or infinite values, "
                f"such as that of {ids[int(np.argmax(bad))]!r}."
            )
        with np.errstate(over="ignore"):  # the difference of two huge logits may be -inf; its exp is 0
            shifted = values - values.max(axis=1, keepdims=True)
        values = np.exp(shifted)
        values /= values.sum(axis=1, keepdims=True)
    else:
        check_probabilities(name, values, ids)
        off = np.abs(values.sum(axis=1) - 1) > SUM_TOLERANCE
        if off.any():
            raise UnfitError(
                f"{off.sum()} of {len(values)} rows of {name} probabilities do not sum to 1, "
                f"such as that of {ids[int(np.argmax(off))]!r}.",
                f"Logits go in columns or arrays that are named logits_{name}; in Python: form='logits'.",
            )
    return values


def require_two(modalities: Sequence[str] | Mapping[str, Any]) -> None:
    """Raise UsageError unless there are at least two modalities."""
    if len(modalities) < 2:
        raise UsageError(
            f"A gap needs two modalities; found {', '.join(modalities) or 'none'}.",
            "Give the scores of two or more by name, such as audio and visual.",
        )


def order_of(names: Sequence[str]) -> list[str]:
    """Return class names in the order of tables: numbers by value, other names alphabetically."""
    if all(name.isdecimal() for name in names):
        return sorted(names, key=int)
    return sorted(names)


def _indexed(
    labels: np.ndarray[Any, Any], classes: Sequence[str] | None, width: int | None
) -> tuple[tuple[str, ...], IntArray]:
    """Return class names, and (N,) indices into them, of labels that are indices or names."""
    if classes is not None and width is not None and len(classes) != width:
        raise UnfitError(f"{len(classes)} class names, but {width} scores for each sample.")
    if classes is not None and len(set(map(str, classes))) < len(classes):
        twice, _ = Counter(map(str, classes)).most_common(1)[0]
        raise UnfitError(f"Two classes are named {twice!r}.", "Give each class its own name.")
    size = len(classes) if classes is not None else width
    if labels.dtype.kind in "iu" and size is not None:
        outside = (labels < 0) | (labels >= size)
        if outside.any():
            what = f"{outside.sum()} of {len(labels)} labels are not in 0..{size - 1}"
            raise UnfitError(f"{what}, such as {labels[outside][0]}.", "Labels are indices of the classes.")
        names = tuple(map(str, classes if classes is not None else range(size)))
        return names, labels.astype(np.int64)
    present, inverse = np.unique(labels, return_inverse=True)
    label_names = [str(name) for name in present.tolist()]
    check_names("label", label_names)
    if classes is None:
        if width is not None:
            raise UnfitError(
                f"Labels such as {label_names[0]!r} do not say which of {width} classes they are.",
                "Give class indices as labels, or the names of the classes in order as `classes`.",
            )
        names = tuple(order_of(label_names))
    else:
        names = tuple(map(str, classes))
    position = {name: i for i, name in enumerate(names)}
    unknown = [name for name in label_names if name not in position]
    if unknown:
        raise UnfitError(f"Label {unknown[0]!r} is not one of the classes: {', '.join(names[:10])}.")
    return names, np.array([position[name] for name in label_names], dtype=np.int64)[inverse]
