"""The verdict of an evaluation in plain sentences, the same for `run`, `evaluate` and `report`.

The accuracy of the last checkpoint is compared with the first one's. Its gap is compared with that of the
checkpoint from which its training continued. If the gap became larger, this comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mgap_cli.config import EvaluateConfig
from mgap_cli.evaluation.evaluate import Judgement
from mgap_cli.evaluation.metrics import DECISION, Comparison, Evaluation, bootstrap_mean, main_head
from mgap_cli.evaluation.seeds import RunGroup, SeedComparison, Spread, several_seeds
from mgap_cli.output import listed
from mgap_cli.report.layout import confidence_level, p_value, printable
from mgap_cli.stats.intervals import Interval
from mgap_cli.training.stage import budget

_ROUNDING = 1e-9  # a difference of gaps up to this is a rounding error
_CHANGED = {
    1: "made the modality gap larger",
    0: "did not change the modality gap measurably",
    -1: "made the modality gap smaller",
}
_COMPARED = {1: "larger than", 0: "not measurably different from", -1: "smaller than"}


def verdict(
    judged: Sequence[Judgement],
    comparisons: Sequence[Comparison],
    groups: Sequence[RunGroup],
    by_seed: Sequence[SeedComparison],
    config: EvaluateConfig,
) -> list[str]:
    """Return the sentences about the last checkpoint, or about the last method if there are several seeds."""
    if several_seeds(groups):
        return _over_seeds(judged, groups, by_seed)
    last = judged[-1]
    others = [j for j in judged if j.path.resolve() != last.path.resolve()]
    reference = others[0] if others else None
    accuracy = _accuracy(last.evaluation, reference.evaluation if reference else None, comparisons)
    change = _gap_change(judged, last, reference, config)
    sentences = [accuracy, change.sentence] if change else [accuracy]
    if change and change.larger:
        sentences.reverse()
    sentences.append(_heads(last.evaluation))
    if reference:
        sentences += _budgets(last, reference)
    return [printable(sentence) for sentence in sentences]


def _accuracy(last: Evaluation, first: Evaluation | None, comparisons: Sequence[Comparison]) -> str:
    comparison = next(
        (c for c in comparisons if first and (c.a, c.b) == (first.name, last.name)),
        None,
    )
    head = comparison.head if comparison else main_head(last.heads)
    metrics = last.heads[head]
    start = f"Accuracy on {last.split} (n = {last.n}), {_head(head)}: {metrics.accuracy:.1%} for {last.name}"
    if first is None or comparison is None:
        low, high = metrics.accuracy_interval.to_list()
        return f"{start} ({confidence_level(last.confidence)} interval {low:.1%} to {high:.1%})."
    p = comparison.adjusted if comparison.adjusted is not None else comparison.test.p_value
    corrected = ", after Holm's correction" if len(comparisons) > 1 else ""
    difference = (
        f"{_points(comparison.difference)} points ({confidence_level(comparison.confidence)} interval "
        f"{_points(comparison.interval.low)} to {_points(comparison.interval.high)}; "
        f"McNemar p {p_value(p)}{corrected})"
    )
    conclusion = _conclusion((last.name, first.name), comparison.difference, p, comparison.confidence)
    return (
        f"{start}, {first.heads[head].accuracy:.1%} for {first.name} ({first.method}); "
        f"{conclusion}: {difference}."
    )


def _conclusion(names: tuple[str, str], difference: float, p: float, confidence: float) -> str:
    """Return which of two is better, if one is; difference: the first minus the second."""
    if p >= 1 - confidence:
        return "the two cannot be told apart"
    return f"{names[0] if difference > 0 else names[1]} is better"


@dataclass(frozen=True)
class _GapChange:
    sentence: str
    larger: bool


def _gap_change(
    judged: Sequence[Judgement], last: Judgement, reference: Judgement | None, config: EvaluateConfig
) -> _GapChange | None:
    """Compare the gaps of the last checkpoint with those of its parent or, without one, of the reference."""
    origin = next((j for j in judged if j.digest and j.digest == last.parent_digest), reference)
    if origin is None or origin.evaluation.scores is None or last.evaluation.scores is None:
        return None
    before, after = origin.evaluation, last.evaluation
    row = {id_: i for i, id_ in enumerate(after.ids)}
    rows = [row[id_] for id_ in before.ids]
    old, new = origin.evaluation.scores, last.evaluation.scores
    change = np.abs(new.gap)[rows] - np.abs(old.gap)
    interval = bootstrap_mean(change, config)
    direction = _direction(interval)
    assert before.gap is not None and after.gap is not None
    numbers = (
        f"mean |gap| {before.gap.mean_absolute:.3f} to {after.gap.mean_absolute:.3f} on {after.split}, "
        f"change {change.mean():+.3f} ({confidence_level(after.confidence)} interval {interval.low:+.3f} to "
        f"{interval.high:+.3f})"
    )
    if before.gap.balanced is not None and after.gap.balanced is not None:
        numbers += f", imbalanced samples {1 - before.gap.balanced:.1%} to {1 - after.gap.balanced:.1%}"
    continued = bool(last.parent_digest) and origin.digest == last.parent_digest
    start = (
        f"{last.evaluation.stage} {_CHANGED[direction]} (from {before.name} to {after.name})"
        if continued
        else f"The gap of {after.name} is {_COMPARED[direction]} that of {before.name}"
    )
    means = {name: (float(old.p[name].mean()), float(new.p[name].mean())) for name in old.p}
    return _GapChange(f"{start}: {numbers}; {_movement(means)}.", direction > 0)


def _direction(interval: Interval) -> int:
    """Return 1 if the whole interval of a change is above 0, -1 if it is below 0, otherwise 0."""
    return int(interval.low > _ROUNDING) - int(interval.high < -_ROUNDING)


def _movement(means: dict[str, tuple[float, float]]) -> str:
    """Return how the mean true-class probabilities of the leading and the lagging modality changed.

    means: modality to its mean before and after; the highest one before leads, the lowest lags.
    """
    leading = max(means, key=lambda name: means[name][0])
    lagging = min((name for name in means if name != leading), key=lambda name: means[name][0])
    parts = [
        f"the {role} modality ({name}) {_moved(*means[name])}"
        for role, name in (("lagging", lagging), ("leading", leading))
    ]
    return f"{parts[0]}, {parts[1]} in mean probability of the true class"


def _moved(before: float, after: float) -> str:
    values = f"{before:.3f}", f"{after:.3f}"
    if values[0] == values[1]:
        return f"stayed at {values[0]}"
    return f"{'rose' if after > before else 'fell'} from {values[0]} to {values[1]}"


def _heads(e: Evaluation) -> str:
    """Return which heads are above the share of the most frequent class, by their intervals."""
    chance = max(e.class_counts) / e.n
    above = [(h, m.accuracy) for h, m in e.heads.items() if m.accuracy_interval.low > chance]
    others = [(h, m.accuracy) for h, m in e.heads.items() if m.accuracy_interval.low <= chance]
    parts = [
        f"{listed([f'{head} ({share:.1%})' for head, share in some])} {verb}"
        for some, verb in (
            (above, f"{_are(above)} above chance"),
            (others, f"{_are(others)} not measurably above chance"),
        )
        if some
    ]
    return f"Heads of {e.name}: {'; '.join(parts)} (chance is the most frequent class, {chance:.1%})."


def _budgets(last: Judgement, first: Judgement) -> list[str]:
    epochs = [budget(j.evaluation.stage, j.config) for j in (last, first)]
    if epochs[0] == epochs[1]:
        return []
    return [
        f"The budgets differ: {epochs[0]} epochs for {last.evaluation.name}, {epochs[1]} for "
        f"{first.evaluation.name}. A part of the difference may come from the epochs alone."
    ]


def _over_seeds(
    judged: Sequence[Judgement], groups: Sequence[RunGroup], by_seed: Sequence[SeedComparison]
) -> list[str]:
    group, first = groups[-1], groups[0]
    members = [judged[i] for i in group.members.values()]
    example = members[-1].evaluation
    head = main_head(example.heads)
    accuracies = Spread.of([j.evaluation.heads[head].accuracy for j in members if head in j.evaluation.heads])
    spread = f"{accuracies.mean:.1%}" + ("" if accuracies.sd is None else f" ± {100 * accuracies.sd:.1f}")
    start = (
        f"Accuracy on {example.split} (n = {example.n}), {_head(head)}, {len(members)} "
        f"seed{'s' if len(members) > 1 else ''}: {spread} for {group.name}"
    )
    comparison = next((c for c in by_seed if (c.a, c.b) == (first.name, group.name)), None)
    if comparison is None:
        return [printable(f"{start}.")]
    p = comparison.adjusted if comparison.adjusted is not None else comparison.p_value
    corrected = ", after Holm's correction" if len(by_seed) > 1 else ""
    difference = (
        f"{_points(comparison.spread.mean)} points over {len(comparison.seeds)} common "
        f"seed{'s' if len(comparison.seeds) > 1 else ''} (permutation p {p_value(p)}{corrected})"
    )
    conclusion = _conclusion((group.name, first.name), comparison.spread.mean, p, example.confidence)
    sentences = [f"{start}; compared with {first.name}, {conclusion}: {difference}."]
    starts = [judged[i] for i in first.members.values()]
    epochs = [budget(j.evaluation.stage, j.config) for j in (members[0], starts[0])]
    if epochs[0] != epochs[1]:
        sentences.append(
            f"The budgets differ: {epochs[0]} epochs for {group.name}, {epochs[1]} for {first.name}. "
            "A part of the difference may come from the epochs alone."
        )
    return [printable(sentence) for sentence in sentences]


def _head(head: str) -> str:
    return "decision rule" if head == DECISION else f"{head} head"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _are(items: Sequence[object]) -> str:
    return "are" if len(items) > 1 else "is"
