"""Why a modality lags: late, memorised, uninformative or balanced, from training and held-out scores.

For each modality, p is the mean probability of the true class. Its learnt share s = (p - 1/C) / (1 - 1/C) is
0 at chance and 1 at certainty. t is the share on the training split, h the share on held-out samples:

    uninformative   neither t nor h is above chance (lower end of the interval of s at most LEARNT)
    memorised       t is above chance, and h is not; or h is less than FOLLOWS times t
    late            neither of these; h is less than BEHIND times the largest h of a modality, and the
                    interval of the paired difference of p excludes 0
    balanced        all other cases

A share is above chance if the lower end of its interval is above LEARNT. h is measured on the validation
split. Without one, it is measured on cross-fitted scores of the training samples; the table always shows
these too. They show what a head has memorised, but not what the encoder has memorised, because the encoder
has seen these samples. The rule and its thresholds are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from mgap_cli.gap.cautions import NEAR_CHANCE
from mgap_cli.gap.scores import Scores
from mgap_cli.stats.arrays import FloatArray
from mgap_cli.stats.intervals import Interval, student_interval

Cause = Literal["late", "memorised", "uninformative", "balanced"]

LEARNT = NEAR_CHANCE  # up to this share, nothing was learnt; the warnings about gaps use the same limit
FOLLOWS = 0.5  # the held-out share must be at least this part of the training share
BEHIND = 0.8  # a modality is behind if its share is less than this part of the leader's


@dataclass(frozen=True)
class Level:
    """Mean probability of the true class over n samples, its interval, and the head's accuracy."""

    mean: float
    interval: Interval | None
    accuracy: float
    n: int

    def share(self, chance: float) -> float:
        """Return the learnt share, 0 at chance."""
        return _share(self.mean, chance)

    def above(self, chance: float) -> bool:
        """Return whether the lower end of the interval is above chance by more than LEARNT."""
        low = self.mean if self.interval is None else self.interval.low
        return _share(low, chance) > LEARNT


@dataclass(frozen=True)
class ModalityCause:
    """The diagnosis of one modality. validation: None without a validation split."""

    modality: str
    cause: Cause
    chance: float
    training: Level
    cross_fitted: Level
    validation: Level | None
    leader: str  # the modality with the highest held-out p

    @property
    def held_out(self) -> Level:
        """The level on held-out samples that the rule used."""
        return self.validation or self.cross_fitted

    @property
    def sentence(self) -> str:
        """The diagnosis and its values in one sentence."""
        seen, held_out = self.training.mean, self.held_out.mean
        where = "validation" if self.validation else "cross-fitted"
        figures = f"mean p {seen:.3f} on train, {held_out:.3f} {where}, chance {self.chance:.3f}"
        says = {
            "uninformative": "uninformative or not yet learnt: near chance on train and on held-out samples",
            "memorised": "memorised: its scores on train do not hold for held-out samples",
            "late": f"late: it generalises, and is behind {self.leader}; more training may help",
            "balanced": "balanced: it generalises, and is not behind",
        }[self.cause]
        return f"{self.modality} is {says} ({figures})."

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "sentence": self.sentence}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> ModalityCause:
        """Return the diagnosis that `to_dict` wrote. Raises KeyError or TypeError for any other document."""
        fields = {key: value for key, value in document.items() if key != "sentence"}
        levels = {key: _saved_level(document[key]) for key in ("training", "cross_fitted")}
        validation = document["validation"] and _saved_level(document["validation"])
        return cls(**{**fields, **levels, "validation": validation})


def diagnose(
    training: Scores, cross_fitted: Scores, validation: Scores | None, confidence: float
) -> list[ModalityCause]:
    """Return the diagnosis of every modality.

    training, cross_fitted: the same samples, scored by the network's heads and by heads that did not see
    them. confidence: level of the intervals.
    """
    chance = 1 / len(training.classes)
    held_out = validation or cross_fitted
    leader = max(held_out.p, key=lambda name: float(held_out.p[name].mean()))
    causes = []
    for name in training.p:
        levels = [_level(scores, name, confidence) for scores in (training, cross_fitted, held_out)]
        cause = _cause(levels[0], levels[2], held_out.p, name, leader, chance, confidence)
        validated = levels[2] if validation else None
        causes.append(ModalityCause(name, cause, chance, levels[0], levels[1], validated, leader))
    return causes


def _share(p: float, chance: float) -> float:
    """Return a probability on the scale from chance (0) to certainty (1)."""
    return (p - chance) / (1 - chance)


def _cause(
    training: Level,
    held_out: Level,
    p: Mapping[str, FloatArray],
    name: str,
    leader: str,
    chance: float,
    confidence: float,
) -> Cause:
    if not held_out.above(chance):
        return "memorised" if training.above(chance) else "uninformative"
    if held_out.share(chance) < FOLLOWS * training.share(chance):
        return "memorised"
    best = _share(float(p[leader].mean()), chance)
    difference = student_interval(p[leader] - p[name], confidence)
    clearly = difference is not None and difference.low > 0
    return "late" if clearly and held_out.share(chance) < BEHIND * best else "balanced"


def _saved_level(document: Mapping[str, Any]) -> Level:
    interval = document["interval"]
    return Level(**{**document, "interval": Interval(**interval) if interval else None})


def _level(scores: Scores, name: str, confidence: float) -> Level:
    p = scores.p[name]
    right = scores.predicted[name] == scores.labels
    return Level(float(p.mean()), student_interval(p, confidence), float(np.mean(right)), len(p))
