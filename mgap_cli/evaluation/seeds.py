"""Combine several seeds of one method: mean and standard deviation, and paired tests over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mgap_cli.config import Config, EvaluateConfig, differing_keys
from mgap_cli.evaluation.metrics import Comparison, Evaluation, compare, main_head
from mgap_cli.stats.multiple_testing import holm
from mgap_cli.stats.paired import sign_flip, smallest_p
from mgap_cli.training.stage import deciding_sections

_SEED = "train.seed"


@dataclass(frozen=True)
class Spread:
    """The mean of one metric over seeds, and its standard deviation with n - 1 (None for one seed)."""

    mean: float
    sd: float | None

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)

    def to_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "sd": self.sd}


@dataclass
class RunGroup:
    """Checkpoints that differ only in their seed.

    settings: the settings in which it differs from other groups of its stage and method. members: the
    position of each seed's evaluation among all.
    """

    stage: str
    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    members: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return " ".join([self.stage, self.method, *(f"{k}={v}" for k, v in self.settings.items())])


@dataclass(frozen=True)
class SeedComparison:
    """Accuracy of group b minus that of a, paired by seed.

    p_value: from `stats.paired.sign_flip` over the seeds. adjusted: p after Holm's correction over all
    groups.
    """

    a: str
    b: str
    head: str
    seeds: tuple[str, ...]
    differences: tuple[float, ...]
    p_value: float
    adjusted: float | None = None

    @property
    def spread(self) -> Spread:
        return Spread.of(self.differences)

    @property
    def smallest_p(self) -> float:
        return smallest_p(len(self.seeds))

    def to_dict(self) -> dict[str, Any]:
        return {
            "a": self.a,
            "b": self.b,
            "head": self.head,
            "seeds": list(self.seeds),
            "differences": list(self.differences),
            **self.spread.to_dict(),
            "permutation_p": self.p_value,
            "permutation_p_holm": self.adjusted,
            "smallest_attainable_p": self.smallest_p,
        }


def grouped(evaluations: Sequence[Evaluation], configs: Sequence[Config]) -> tuple[list[RunGroup], list[str]]:
    """Return the groups in the order of their first checkpoints, and the warnings.

    Each seed counts once per group. If two checkpoints have the same seed and settings (such as a copy), the
    first is taken.
    """
    alike: dict[tuple[str, str], list[int]] = {}
    for i, e in enumerate(evaluations):
        alike.setdefault((e.stage, e.method), []).append(i)
    groups: dict[tuple[Any, ...], RunGroup] = {}
    warnings = []
    for i, e in enumerate(evaluations):
        settings = _telling_apart([configs[j] for j in alike[e.stage, e.method]], configs[i], e)
        key = (e.stage, e.method, *settings.items())
        group = groups.setdefault(key, RunGroup(e.stage, e.method, settings))
        first = group.members.setdefault(e.seed, i)
        if first != i:
            where = (
                "was given twice" if e.name == evaluations[first].name else "has the same settings and seed"
            )
            other = "" if e.name == evaluations[first].name else f" as {evaluations[first].name}"
            warnings.append(f"{e.name} {where}{other}: seed {e.seed} of {group.name} counts once.")
    return list(groups.values()), warnings


def _telling_apart(all_of_kind: Sequence[Config], group_config: Config, e: Evaluation) -> dict[str, Any]:
    sections = deciding_sections(e.stage, e.method, group_config)
    differing = dict.fromkeys(
        key for other in all_of_kind for key in differing_keys(all_of_kind[0], other, sections)
    )
    values = group_config.with_methods(name for config in all_of_kind for name in config.methods).flat()
    return {key: values[key] for key in differing if key != _SEED}


def spreads(group: RunGroup, evaluations: Sequence[Evaluation]) -> dict[str, Spread]:
    """Return {name: spread} over the seeds of a group, for every metric that all of its members have."""
    figures = [figures_of(evaluations[i]) for i in group.members.values()]
    return {
        name: Spread.of([f[name] for f in figures]) for name in figures[0] if all(name in f for f in figures)
    }


def figures_of(e: Evaluation) -> Mapping[str, float]:
    """Return every metric of one evaluation by name, such as `fused.accuracy`; shares are from 0 to 1."""
    figures: dict[str, float | None] = {}
    for head, m in e.heads.items():
        figures[f"{head}.accuracy"] = m.accuracy
        figures[f"{head}.balanced_accuracy"] = m.balanced_accuracy
        figures[f"{head}.top_k"] = m.top_k.accuracy if m.top_k else None
        figures[f"{head}.macro_f1"] = m.macro_f1
        figures[f"{head}.mean_average_precision"] = m.mean_average_precision
        figures[f"{head}.ece"] = m.reliability.ece
    if e.gap:
        figures["gap.mean_absolute"] = e.gap.mean_absolute
        figures["gap.balanced_share"] = e.gap.balanced
    return {name: value for name, value in figures.items() if value is not None}


def over_seeds(groups: Sequence[RunGroup], evaluations: Sequence[Evaluation]) -> list[SeedComparison]:
    """Compare each group with the first one over their common seeds, if there are any."""
    comparisons = []
    base, *others = groups
    for group in others:
        pairs = _pairs(base, group, evaluations)
        if not pairs:
            continue
        head = pairs[0][2]
        differences = tuple(
            evaluations[j].heads[head].accuracy - evaluations[i].heads[head].accuracy for i, j, _ in pairs
        )
        seeds = tuple(evaluations[i].seed for i, _, _ in pairs)
        comparisons.append(
            SeedComparison(base.name, group.name, head, seeds, differences, sign_flip(differences))
        )
    corrected = holm([c.p_value for c in comparisons])
    return [replace(c, adjusted=p) for c, p in zip(comparisons, corrected, strict=True)]


def compare_checkpoints(
    groups: Sequence[RunGroup], evaluations: Sequence[Evaluation], config: EvaluateConfig
) -> list[Comparison]:
    """Compare checkpoints on samples; Holm's method corrects McNemar's p over all comparisons.

    With several seeds of a method, each checkpoint of a group is compared with the first group's checkpoint
    of the same seed. Otherwise each checkpoint is compared with the first one.
    """
    if several_seeds(groups):
        pairs = [pair for group in groups[1:] for pair in _pairs(groups[0], group, evaluations)]
    else:
        pairs = [
            (0, j, head)
            for j in range(1, len(evaluations))
            if (head := _common(evaluations[0], evaluations[j]))
        ]
    comparisons = [compare(evaluations[i], evaluations[j], config, head) for i, j, head in pairs]
    corrected = holm([c.test.p_value for c in comparisons])
    return [replace(c, adjusted=p) for c, p in zip(comparisons, corrected, strict=True)]


def several_seeds(groups: Sequence[RunGroup]) -> bool:
    """Return whether a group has several seeds."""
    return any(len(group.members) > 1 for group in groups)


def _pairs(a: RunGroup, b: RunGroup, evaluations: Sequence[Evaluation]) -> list[tuple[int, int, str]]:
    """Return (place in a, place in b, common head) for the seeds that both have."""
    shared = [(i, b.members[seed]) for seed, i in a.members.items() if seed in b.members]
    return [(i, j, head) for i, j in shared if (head := _common(evaluations[i], evaluations[j]))]


def _common(a: Evaluation, b: Evaluation) -> str | None:
    """Return the head to compare: the main one of the heads that both have."""
    common = [head for head in a.heads if head in b.heads]
    return main_head(common) if common else None
