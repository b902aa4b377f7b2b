"""Find the samples that moved between checkpoints: from imbalanced to balanced, or back.

The aim that imbalanced samples move to the balanced component is that of arXiv 2510.21797; the definition of
a move is ours. A sample can change sides in two ways: its gap crosses the border, or the border moves,
because each checkpoint has another mixture. The analysis therefore uses two mixtures. The *fixed* mixture is
the first checkpoint's. It judges all checkpoints, so that a sample moves only if its gap changes. The
*refitted* mixture is fitted to each checkpoint. It shows whether that network still has a separate group.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mgap_cli.config import Config
from mgap_cli.errors import UnfitError
from mgap_cli.evaluation.metrics import bootstrap_mean
from mgap_cli.gap.mixture import IMBALANCED, GapFit, analyse
from mgap_cli.gap.scores import Scores
from mgap_cli.stats.arrays import BoolArray, FloatArray, IntArray
from mgap_cli.stats.intervals import Interval, wilson_interval
from mgap_cli.stats.paired import mcnemar

SIDES = ("balanced", "imbalanced")


@dataclass(frozen=True)
class Transition:
    """The numbers of samples on each side before and after.

    recovered: samples that went from imbalanced to balanced. worsened: the other way. The intervals are
    Wilson's, of the share of the samples that started on that side; None if no sample did. change: imbalanced
    share after minus before, with its paired bootstrap interval. p_value: McNemar's test that equally many
    went each way.
    """

    recovered: int
    stayed_imbalanced: int
    worsened: int
    stayed_balanced: int
    confidence: float
    change: float
    change_interval: Interval
    p_value: float

    @property
    def n(self) -> int:
        return self.were_imbalanced + self.were_balanced

    @property
    def were_imbalanced(self) -> int:
        return self.recovered + self.stayed_imbalanced

    @property
    def were_balanced(self) -> int:
        return self.worsened + self.stayed_balanced

    def rows(self) -> list[tuple[str, str, int, int]]:
        """Return (side before, side after, samples, samples on that side before) of the four moves."""
        balanced, imbalanced = SIDES
        return [
            (imbalanced, balanced, self.recovered, self.were_imbalanced),
            (imbalanced, imbalanced, self.stayed_imbalanced, self.were_imbalanced),
            (balanced, imbalanced, self.worsened, self.were_balanced),
            (balanced, balanced, self.stayed_balanced, self.were_balanced),
        ]

    def interval(self, count: int, of: int) -> Interval | None:
        """Return Wilson's interval of the share `count` / `of`; None if `of` is 0."""
        return wilson_interval(count, of, self.confidence) if of else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        moves = []
        for before, after, count, of in self.rows():
            interval = self.interval(count, of)
            share = {"share_of_all": count / self.n, "share_of_before": count / of if of else None}
            ends = {"interval": interval.to_list() if interval else None}
            moves.append({"before": before, "after": after, "samples": count, **share, **ends})
        return {
            "n": self.n,
            "moves": moves,
            "imbalanced_before": self.were_imbalanced / self.n,
            "imbalanced_after": (self.stayed_imbalanced + self.worsened) / self.n,
            "change": self.change,
            "change_interval": self.change_interval.to_list(),
            "mcnemar_p": self.p_value,
            "confidence": self.confidence,
        }


@dataclass(frozen=True)
class Movement:
    """The gaps of the same N samples at K checkpoints.

    names: the checkpoints' names. fits: one fit per checkpoint, with its refitted mixture. fixed_posteriors:
    (K, N) posteriors of imbalance under the fixed mixture, the first checkpoint's. Tables by group and lists
    of moved samples compare the last checkpoint with the first.
    """

    names: tuple[str, ...]
    split: str
    fits: tuple[GapFit, ...]
    fixed_posteriors: FloatArray
    config: Config

    @property
    def scores(self) -> Scores:
        """Return the first checkpoint's scores."""
        return self.fits[0].scores

    @property
    def gaps(self) -> FloatArray:
        """Gaps, (K, N)."""
        return np.stack([fit.scores.gap for fit in self.fits])

    @property
    def imbalanced(self) -> BoolArray:
        """Return whether each sample is imbalanced at each checkpoint by the fixed mixture, (K, N)."""
        return np.asarray(self.fixed_posteriors >= IMBALANCED)

    def since_first(self, k: int, rows: BoolArray | None = None, *, refitted: bool = False) -> Transition:
        """Return the moves from the first checkpoint to checkpoint `k`, of all samples or (N,) `rows`."""
        sides = np.stack([fit.imbalanced for fit in self.fits]) if refitted else self.imbalanced
        chosen = slice(None) if rows is None else rows
        return transition(sides[0][chosen], sides[k][chosen], self.config)

    def by_class(self) -> list[tuple[str, Transition]]:
        """Return the moves of each class that has samples, the most recovered first."""
        labels, classes = self.scores.labels, self.scores.classes
        groups = [(name, labels == c) for c, name in enumerate(classes) if (labels == c).any()]
        moves = [(name, self.since_first(-1, rows)) for name, rows in groups]
        return sorted(moves, key=lambda move: (move[1].change, -move[1].n))

    def by_lead(self) -> list[tuple[str, Transition]]:
        """Return the moves by the modality that led at the first checkpoint."""
        groups = [(f"{name} led" if name else "equal", rows) for name, rows in self.scores.by_leader()]
        return [(name, self.since_first(-1, rows)) for name, rows in groups if rows.any()]

    def paths(self) -> list[tuple[tuple[str, ...], int]]:
        """Return each sequence of sides over the checkpoints and its count, the most frequent first."""
        counted = Counter(tuple(SIDES[side] for side in column) for column in self.imbalanced.T.tolist())
        return sorted(counted.items(), key=lambda item: (-item[1], item[0]))

    def mean_scores(self, before: str, after: str) -> list[tuple[float, ...]]:
        """Return each modality's mean true-class probability at each checkpoint, over the samples of a move.

        It shows whether gaps closed because the lagging modality rose, or because the leading one fell. Empty
        if no sample made the move.
        """
        rows = self.movers(before, after)
        if not len(rows):
            return []
        scores = [fit.scores for fit in self.fits]
        return [tuple(float(p[rows].mean()) for p in s.p.values()) for s in scores]

    def movers(self, before: str, after: str) -> IntArray:
        """Return the positions of samples that went from one side to the other, or stayed.

        Samples that moved are sorted by the change of |gap|, the others by their present |gap|.
        """
        was, now = (SIDES.index(side) == 1 for side in (before, after))
        rows = np.flatnonzero((self.imbalanced[0] == was) & (self.imbalanced[-1] == now))
        size = np.abs(self.gaps)
        key = np.abs(size[-1] - size[0]) if was != now else size[-1]
        return np.asarray(rows[np.argsort(-key[rows], kind="stable")], dtype=np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the samples, as plain values; groups compare the last with the first."""
        later = range(1, len(self.fits))
        return {
            "split": self.split,
            "n": len(self.scores),
            "checkpoints": list(self.names),
            "fixed_mixture": self.names[0],
            "modalities": list(self.scores.modalities),
            "since_first": [
                {
                    "checkpoint": self.names[k],
                    "fixed": self.since_first(k).to_dict(),
                    "refitted": self.since_first(k, refitted=True).to_dict(),
                }
                for k in later
            ],
            "mean_scores": [
                {"before": before, "after": after, "by_checkpoint": self.mean_scores(before, after)}
                for before, after, _, _ in self.since_first(-1).rows()
            ],
            "paths": [{"sides": list(sides), "samples": count} for sides, count in self.paths()],
            "by": {
                "lead": {name: t.to_dict() for name, t in self.by_lead()},
                "class": {name: t.to_dict() for name, t in self.by_class()},
            },
        }


def transition(before: BoolArray, after: BoolArray, config: Config) -> Transition:
    """Return the moves of (N,) samples, given whether each was imbalanced before and is now."""
    confidence = config.analysis.confidence
    bootstrap = dataclasses.replace(config.evaluate, confidence=confidence, seed=config.analysis.seed)
    difference = after.astype(np.float64) - before
    return Transition(
        recovered=int((before & ~after).sum()),
        stayed_imbalanced=int((before & after).sum()),
        worsened=int((~before & after).sum()),
        stayed_balanced=int((~before & ~after).sum()),
        confidence=confidence,
        change=float(difference.mean()),
        change_interval=bootstrap_mean(difference, bootstrap),
        p_value=mcnemar(before, after).p_value,
    )


def movement_of(names: Sequence[str], scores: Sequence[Scores], split: str, config: Config) -> Movement:
    """Fit each checkpoint's mixture; the first is the fixed one. UnfitError if the samples differ."""
    for name, table in zip(names[1:], scores[1:], strict=True):
        if table.ids != scores[0].ids:
            raise UnfitError(
                f"{name} has other samples than {names[0]}: which samples moved cannot be determined.",
                "Give checkpoints that were trained on one store.",
            )
    fits = tuple(analyse(table, config.gap) for table in scores)
    fixed_posteriors = np.stack([fits[0].mixture.posterior(table.gap) for table in scores])
    return Movement(tuple(names), split, fits, fixed_posteriors, config)
