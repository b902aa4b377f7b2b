"""Find the scores among the columns of a table: which columns belong to which head."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mgap_cli.errors import UnfitError, UsageError
from mgap_cli.gap.score_table import ScoreForm, require_two
from mgap_cli.gap.scores import FUSED

_NAME = re.compile(r"(?P<form>p|logits)_(?P<name>.+)", re.DOTALL)
_LISTED_COLUMNS = 12  # number of columns that a message names


@dataclass(frozen=True)
class Head:
    """The columns with one head's scores.

    whole: whether one column has the scores of all classes, as an array (N, C) or as one list per row.
    classes: the class of each column, where there is one column per class; otherwise empty.
    """

    name: str
    form: ScoreForm
    columns: tuple[str, ...]
    classes: tuple[str, ...] = ()
    whole: bool = False

    @property
    def complete(self) -> bool:
        """Return whether the scores of all classes are known, not only those of the true class."""
        return self.whole or bool(self.classes)


def is_score_column(name: str) -> bool:
    """Return whether a column is named like scores: p_... or logits_..."""
    return _NAME.fullmatch(name) is not None


def heads_of(
    header: Sequence[str], modalities: Sequence[str], whole: Collection[str] = frozenset()
) -> list[Head]:
    """Return the heads of a table: `modalities` and fused, or every head that the column names mention.

    whole: the columns that hold all classes at once. A column belongs to the longest name that it fits, so
    that p_left_ear is not class `ear` of `left` where there is a modality left_ear. If a head has scores in
    more than one form, p_<name> is used first, then p_<name>_<class>, then logits. Raises UnfitError for
    a modality without scores and for heads with different classes; UsageError for names that do not say
    where the modality ends, and for fewer than two modalities.
    """
    names = [*modalities, FUSED] if modalities else _names(header, whole)
    forms: dict[str, dict[tuple[str, bool], list[str]]] = {name: {} for name in names}
    for match in filter(None, map(_NAME.fullmatch, header)):
        fits = [name for name in names if match["name"] == name or match["name"].startswith(f"{name}_")]
        owner = max(fits, key=len, default=None)
        exact = match["name"] == owner
        if owner is not None and not (exact and match["form"] == "logits" and match[0] not in whole):
            forms[owner].setdefault((match["form"], exact), []).append(match[0])
    heads: list[Head] = []
    for name, columns in forms.items():
        head = _head(name, columns, whole)
        if head:
            heads.append(head)
        elif name != FUSED:
            raise UnfitError(
                f"no column p_{name}, p_{name}_<class> or logits_{name}_<class>.", columns_hint(header)
            )
    if len({head.classes for head in heads if head.classes}) > 1:
        raise UnfitError("the columns of two heads name different classes, or the same in another order.")
    require_two([head.name for head in heads if head.name != FUSED])
    return heads


def _head(name: str, columns: dict[tuple[str, bool], list[str]], whole: Collection[str]) -> Head | None:
    forms: tuple[ScoreForm, ...] = ("p", "logits")
    for form in forms:
        if (form, True) in columns:
            (only,) = columns[form, True]
            return Head(name, form, (only,), whole=only in whole)
        many = tuple(c for c in columns.get((form, False), ()) if c not in whole)
        if many:
            return Head(name, form, many, tuple(c.removeprefix(f"{form}_{name}_") for c in many))
    return None


def _names(header: Sequence[str], whole: Collection[str]) -> list[str]:
    """Return the names of the heads that a header mentions, without a class number at the end of a name."""
    names: list[str] = []
    for match in filter(None, map(_NAME.fullmatch, header)):
        name = match["name"] if match[0] in whole else re.sub(r"_\d+$", "", match["name"])
        if match["form"] == "logits" and name == match["name"] and match[0] not in whole:
            raise UsageError(
                f"column {match[0]!r}: its name does not say where the modality ends and the class begins.",
                "Name the modalities, such as --modalities audio,visual.",
            )
        names.append(name)
    distinct = list(dict.fromkeys(names))
    if len([name for name in distinct if name != FUSED]) < 2:
        raise UnfitError(
            "a gap needs two modalities, with columns such as p_audio and p_visual.", columns_hint(header)
        )
    return distinct


def require_columns(header: Sequence[str], *names: str) -> None:
    """Raise UnfitError unless the header has these names, and no name twice."""
    for name in names:
        if name not in header:
            raise UnfitError(f"no column {name!r}.", columns_hint(header))
    if len(set(header)) < len(header):
        twice = next(name for name in header if list(header).count(name) > 1)
        raise UnfitError(f"two columns are named {twice!r}.", "Give each column its own name.")


def columns_hint(header: Sequence[str]) -> str:
    """Return the hint that lists the first columns of a table."""
    listed = ", ".join(map(repr, header[:_LISTED_COLUMNS]))
    return f"Its columns: {listed}{', ...' if len(header) > _LISTED_COLUMNS else ''}."
