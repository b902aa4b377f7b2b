"""The tables of `evaluate`: checkpoints, or methods over their seeds, and further tables on request.

They are readable at 80 columns: a few checkpoints have all values with intervals, many have one line each.
Each function returns a renderable; see `tables`.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from rich.console import Group, RenderableType
from rich.table import Table

from mgap_cli.evaluation.by_column import GroupAccuracy
from mgap_cli.evaluation.evaluate import Judgement
from mgap_cli.evaluation.metrics import DECISION, Comparison, Evaluation, main_head
from mgap_cli.evaluation.robustness import AUDIO_NOISE, CLEAN, FRAME_NOISE, OCCLUSION, Condition
from mgap_cli.evaluation.seeds import RunGroup, SeedComparison, Spread, several_seeds, spreads
from mgap_cli.report.layout import (
    add_numbers,
    confidence_level,
    cropped,
    new_table,
    p_value,
    percent,
    percent_range,
    printable,
    titled,
    verbatim,
)
from mgap_cli.stats.intervals import Interval
from mgap_cli.stats.paired import smallest_p

BLOCK = 7  # checkpoints that fit side by side in 80 columns
WIDEST = 14  # letters of a word of a method's name that fit beside its numbers in 80 columns
FEW = 4  # up to this number, each checkpoint has its own paragraph
_HEADS_WITH_INTERVALS = 3  # more of them leave no room for the names of the rows at 80 columns
LISTED = 20  # groups of samples that are shown; of more, the least and the most accurate
MISSING = "missing"  # the condition of any modality without input
DEFINITIONS = {
    AUDIO_NOISE: "audio noise: white, at that signal-to-noise ratio, added to the stored spectrum",
    FRAME_NOISE: "frame noise: Gaussian, white being 1",
    OCCLUSION: "occlusion: a square of that share of the frame",
    MISSING: "missing: its input replaced by zeros, or by the training split's mean",
}


@dataclass(frozen=True)
class Contender:
    """A checkpoint, or the checkpoints of one method over its seeds, whose metrics are averaged."""

    name: str
    members: tuple[Judgement, ...]

    @property
    def head(self) -> str:
        """The head whose metrics are shown: that of a decision rule, the fused one, or the only one."""
        return main_head(self.members[0].evaluation.heads)


def contenders(judged: Sequence[Judgement], groups: Sequence[RunGroup]) -> list[Contender]:
    """Return the columns of a comparison: groups if one has several seeds, otherwise checkpoints."""
    if several_seeds(groups):
        return [Contender(g.name, tuple(judged[i] for i in g.members.values())) for g in groups]
    return [Contender(j.evaluation.name, (j,)) for j in judged]


def evaluation_table(evaluations: Sequence[Evaluation]) -> RenderableType:
    """Checkpoints below one another: each head's accuracy, macro-F1 and mAP of the main one, the gap."""
    heads = list(dict.fromkeys(head for e in evaluations for head in e.heads))
    few = len(evaluations) <= FEW and len(heads) <= _HEADS_WITH_INTERVALS
    table = new_table()
    add_numbers(table, "")
    if not few:
        table.add_column("checkpoint")
    add_numbers(table, *(f"{head}\nacc. %" for head in heads))
    add_numbers(table, "macro-F1\n%", "mAP\n%", "mean\n|gap|", "bal.\n%")
    for number, e in enumerate(evaluations, start=1):
        if few and number > 1:
            table.add_row()
        (_paragraph if few else _line)(table, number, e, heads)
    level = confidence_level(evaluations[0].confidence)
    where = "Below each share: its {} interval." if few else "{} intervals: --json."
    notes = [
        *(_numbered(map(_name_and_training, evaluations)) if few else []),
        f"{where.format(level)} macro-F1, mAP: {_main_heads(evaluations)}. "
        "bal.: share of samples with a posterior of imbalance under 1/2.",
    ]
    for absent in dict.fromkeys(e.absent for e in evaluations if e.absent):
        notes.append(f"Classes without samples, left out of mAP: {', '.join(map(printable, absent))}.")
    return titled(f"Evaluation{_on(evaluations)}", table, *notes)


def _name_and_training(e: Evaluation) -> str:
    seed = f"seed {e.seed}" if e.seed else ""
    training = ", ".join(map(printable, filter(None, [e.stage, e.method, seed])))
    return printable(e.name) + (f" ({training})" if training else "")


def _paragraph(table: Table, number: int, e: Evaluation, heads: Sequence[str]) -> None:
    main = e.heads[main_head(e.heads)]
    table.add_row(
        str(number),
        *(
            _with_interval(e.heads[head].accuracy, e.heads[head].accuracy_interval)
            if head in e.heads
            else "-"
            for head in heads
        ),
        _with_interval(main.macro_f1, main.macro_f1_interval),
        _with_interval(main.mean_average_precision, main.mean_average_precision_interval),
        *_gap(e),
    )


def _line(table: Table, number: int, e: Evaluation, heads: Sequence[str]) -> None:
    main = e.heads[main_head(e.heads)]
    table.add_row(
        str(number),
        cropped(e.name, middle=True),
        *(percent(m.accuracy if (m := e.heads.get(head)) else None) for head in heads),
        percent(main.macro_f1),
        percent(main.mean_average_precision),
        *_gap(e),
    )


def _gap(e: Evaluation) -> list[str]:
    return [
        f"{e.gap.mean_absolute:.3f}" if e.gap else "-",
        percent(e.gap.balanced if e.gap else None),
    ]


def calibration_table(evaluations: Sequence[Evaluation]) -> RenderableType:
    """Balanced accuracy, top-k, calibration: every head of one checkpoint, or the main one of several."""
    alone = len(evaluations) == 1
    rows = [
        (number, e, head)
        for number, e in enumerate(evaluations, start=1)
        for head in e.heads
        if alone or head == main_head(e.heads)
    ]
    ranked = next((m.top_k for _, e, head in rows if (m := e.heads[head]).top_k), None)
    few = len(evaluations) <= FEW
    table = new_table()
    if not few:
        add_numbers(table, "")
    table.add_column("head" if alone else "checkpoint")
    add_numbers(table, "accuracy\n%", *([] if few else ["interval\n%"]), "balanced\nacc. %")
    if ranked:
        add_numbers(table, f"top-{ranked.k}\n%")
    add_numbers(table, "mean conf.\n%", "ECE\n%")
    in_percent = _with_interval if few else lambda share, interval: percent(share)
    for number, e, head in rows:
        m = e.heads[head]
        name = cropped(head if alone else e.name, middle=True)
        table.add_row(
            *([] if few else [str(number)]),
            name,
            percent(m.accuracy),
            *([] if few else [percent_range(m.accuracy_interval)]),
            in_percent(m.balanced_accuracy, m.balanced_accuracy_interval),
            *([in_percent(m.top_k.accuracy, m.top_k.interval) if m.top_k else "-"] if ranked else []),
            percent(m.reliability.mean_confidence),
            in_percent(m.reliability.ece, m.ece_interval),
        )
    bins = len(rows[0][1].heads[rows[0][2]].reliability.counts)
    notes = [
        f"ECE: expected calibration error, {bins} equal-width bins (Guo et al., 2017); 0 is calibrated. "
        "Confidence above accuracy: overconfident.",
        "Balanced accuracy: mean over classes. "
        f"{'Below each' if few else 'Interval'}: {confidence_level(evaluations[0].confidence)} interval.",
    ]
    title = "Class balance and calibration"
    title += "" if alone else f", {_main_heads(evaluations)}"
    return titled(f"{title}{_on(evaluations)}", table, *notes)


def group_table(groups: Sequence[RunGroup], evaluations: Sequence[Evaluation]) -> RenderableType:
    """Each method's figures over its seeds: mean and, below it, standard deviation."""
    heads = list(dict.fromkeys(head for e in evaluations for head in e.heads))
    long = any(len(word) > WIDEST for group in groups for word in group.name.split())
    table = new_table()
    table.add_column("method", overflow="fold")
    add_numbers(table, "seeds", *(f"{head}\nacc. %" for head in heads))
    add_numbers(table, "balanced\nacc. %", "macro-\nF1 %", "ECE\n%", "mean\n|gap|", "bal.\n%")
    for number, group in enumerate(groups, start=1):
        if number > 1:
            table.add_row()
        spread_of = spreads(group, evaluations)
        names = [f"{head}.accuracy" for head in heads]
        main = main_head(evaluations[next(iter(group.members.values()))].heads)
        names += [f"{main}.balanced_accuracy", f"{main}.macro_f1", f"{main}.ece"]
        cells = [_spread(spread_of.get(name)) for name in names]
        cells += [
            _spread(spread_of.get("gap.mean_absolute"), 1, 3),
            _spread(spread_of.get("gap.balanced_share")),
        ]
        name = str(number) if long else printable(group.name)
        table.add_row(verbatim(name), str(len(group.members)), *cells)
    lone = [g.name for g in groups if len(g.members) == 1]
    notes = [
        "Mean over seeds and, below it, standard deviation (n - 1). "
        f"Balanced accuracy, F1 and ECE: {_main_heads(evaluations)}."
    ]
    if long:
        notes = [*_numbered(printable(g.name) for g in groups), *notes]
    if lone:
        notes.append(f"One seed, so no standard deviation: {', '.join(map(printable, lone))}.")
    return titled(f"Methods over seeds{_on(evaluations)}", table, *notes)


def seed_comparison_table(
    comparisons: Sequence[SeedComparison], groups: Sequence[RunGroup], confidence: float
) -> RenderableType:
    """Each of several methods minus the first, paired by seed. confidence: 1 - the level of the test."""
    base = printable(groups[0].name)
    compared = {c.b for c in comparisons}
    apart = [printable(g.name) for g in groups[1:] if g.name not in compared]
    notes = [f"No seed and head in common with {base}: {', '.join(apart)}."] if apart else []
    table = new_table()
    table.add_column("method", overflow="fold")
    table.add_column("head")
    add_numbers(table, "seeds", "mean\npoints", "sd\npoints", "p", "p\nHolm", "smallest\np possible")
    for c in comparisons:
        table.add_row(
            verbatim(printable(c.b)),
            c.head,
            str(len(c.seeds)),
            f"{100 * c.spread.mean:+.1f}",
            "-" if c.spread.sd is None else f"{100 * c.spread.sd:.1f}",
            p_value(c.p_value),
            p_value(c.adjusted if c.adjusted is not None else c.p_value),
            p_value(c.smallest_p),
        )
    if comparisons:
        notes.append(
            "p: two-sided sign-flip permutation test over the common seeds, with every sign pattern. "
            f"Holm: corrected for {_times(len(comparisons))}."
        )
        if any(c.smallest_p > 1 - confidence for c in comparisons):
            needed = next(n for n in count(1) if smallest_p(n) <= 1 - confidence)
            notes.append(
                "If the smallest possible p is above "
                f"{1 - confidence:.3g}, no difference, however large, is significant: "
                f"that needs {needed} seeds, and more with Holm's correction."
            )
    title = f"Accuracy of methods minus that of {base}, paired by seed"
    return titled(title, table if comparisons else None, *notes)


def comparison_table(comparisons: Sequence[Comparison], evaluations: Sequence[Evaluation]) -> RenderableType:
    """Accuracy differences on the same samples, with interval and McNemar's p with and without correction."""
    numbers = {e.name: str(i) for i, e in reversed(list(enumerate(evaluations, start=1)))}
    few, many = len(evaluations) <= FEW, len(comparisons) > 1
    table = new_table()
    add_numbers(table, "compared")
    if not few:
        table.add_column("first of them")
    add_numbers(table, "difference\npoints" if few else "diff.\npoints", "interval\npoints")
    add_numbers(table, *(("only first\nright", "only second\nright") if few else ("only\n1st", "only\n2nd")))
    add_numbers(table, "McNemar\np")
    if many:
        add_numbers(table, "p\nHolm")
    for c in comparisons:
        table.add_row(
            f"{numbers[c.b]} minus {numbers[c.a]}" if few else f"{numbers[c.b]} - {numbers[c.a]}",
            *([] if few else [cropped(c.b, middle=True)]),
            f"{100 * c.difference:+.1f}",
            f"{100 * c.interval.low:+.1f}, {100 * c.interval.high:+.1f}",
            str(c.test.only_b),
            str(c.test.only_a),
            p_value(c.test.p_value) + ("*" if c.test.method.startswith("exact") else ""),
            *([p_value(c.adjusted if c.adjusted is not None else c.test.p_value)] if many else []),
        )
    heads = ", ".join(dict.fromkeys(c.head for c in comparisons))
    sizes = ", ".join(dict.fromkeys(str(c.n) for c in comparisons))
    level = confidence_level(comparisons[0].confidence)
    notes = [
        *(_numbered(printable(e.name) for e in evaluations) if few else []),
        f"Interval: {level} paired bootstrap. "
        "McNemar: chi-square with continuity correction; * exact binomial.",
    ]
    if many:
        notes.append(f"Holm: McNemar's p corrected for {_times(len(comparisons))}.")
    return titled(f"Differences in {heads} accuracy, n = {sizes}, same samples", table, *notes)


def per_class_table(judged: Sequence[Judgement], groups: Sequence[RunGroup]) -> RenderableType:
    """Accuracy by class: every head of one checkpoint, or the main head of several, side by side."""
    first = judged[0].evaluation
    side_by_side = contenders(judged, groups)
    by = f"by class, %{_on([first])}"

    def shares(e: Evaluation, head: str) -> dict[str, float | None]:
        return dict(zip(e.classes, e.heads[head].per_class, strict=True))

    if len(judged) == 1:
        table = new_table()
        table.add_column("class")
        add_numbers(table, "n", *_headings(first.heads))
        for i, (value, n) in enumerate(zip(first.classes, first.class_counts, strict=True)):
            recalls = {head: (m.per_class[i], m.per_class_interval[i]) for head, m in first.heads.items()}
            table.add_row(cropped(value), str(n), *_cells(recalls))
        note = f"{printable(first.name)}. Interval: Wilson's, {confidence_level(first.confidence)}."
        return titled(f"Accuracy {by}", table, note)
    columns = [
        (str(i), [shares(m.evaluation, c.head) for m in c.members]) for i, c in enumerate(side_by_side, 1)
    ]
    body = _blocks("class", first.classes, first.class_counts, columns)
    return titled(f"{_head_of(side_by_side)} accuracy {by}", body, *_legend(side_by_side))


def by_table(judged: Sequence[Judgement], groups: Sequence[RunGroup], column: int) -> RenderableType:
    """Accuracy by the values of a column: every head of one checkpoint, or the main one of several."""
    first = judged[0].by[column]
    by = f"by {printable(first.column)}, %{_on([judged[0].evaluation])}"
    alone = len(judged) == 1
    order = "The least accurate first." if alone else "Sorted by the first: the least accurate first."
    notes = ["Bins of about equal n, in order." if first.binned else order]
    if alone:
        table = new_table()
        table.add_column(verbatim(printable(first.column)))
        add_numbers(table, "n", *_headings(first.groups[0].accuracy))
        for group in _shortlist(first.groups, first.binned):
            if group is None:
                table.add_row(f"... {len(first.groups) - LISTED} between")
                continue
            accuracies = {head: (share, group.interval[head]) for head, share in group.accuracy.items()}
            table.add_row(cropped(group.value, middle=True), str(group.n), *_cells(accuracies))
        notes.append(f"Interval: Wilson's, {confidence_level(judged[0].evaluation.confidence)}.")
        return titled(f"Accuracy {by}", table, " ".join(notes))
    side_by_side = contenders(judged, groups)
    listed = _shortlist(first.groups, first.binned)
    columns = [
        (
            str(i),
            [{g.value: g.accuracy[c.head] for g in member.by[column].groups} for member in c.members],
        )
        for i, c in enumerate(side_by_side, start=1)
    ]
    values = [f"... {len(first.groups) - LISTED} between" if g is None else g.value for g in listed]
    counts = ["" if g is None else g.n for g in listed]
    body = _blocks(first.column, values, counts, columns)
    return titled(f"{_head_of(side_by_side)} accuracy {by}", body, *notes, *_legend(side_by_side))


def robustness_table(judged: Sequence[Judgement], groups: Sequence[RunGroup]) -> RenderableType:
    """Accuracy under each condition: each head with the change, or the main head of several."""
    evaluation = judged[0].evaluation
    rows = [measured.condition for measured in judged[0].robustness]
    applied = {MISSING if row.fill else row.corruption for row in rows}
    notes = [f"{'; '.join(text for name, text in DEFINITIONS.items() if name in applied)}."]
    side_by_side = contenders(judged, groups)
    table = new_table()
    table.add_column("input")
    add_numbers(table, "level")
    if len(judged) > 1:
        columns = [
            (
                str(i),
                [
                    {r: m.accuracy[c.head] for r, m in zip(rows, member.robustness, strict=True)}
                    for member in c.members
                ],
            )
            for i, c in enumerate(side_by_side, start=1)
        ]
        blocks = []
        for start in range(0, len(columns), BLOCK):
            table = new_table()
            table.add_column("input")
            add_numbers(table, "level", *(heading for heading, _ in columns[start : start + BLOCK]))
            for row, name in zip(rows, _names(rows), strict=True):
                cells = [
                    percent(statistics.fmean(m[row] for m in ms)) for _, ms in columns[start : start + BLOCK]
                ]
                table.add_row(name, row.text, *cells)
            blocks.append(table)
        head = _head_of(side_by_side).lower()
        title = f"Robustness: {head} accuracy, %{_on([evaluation])}"
        return titled(title, Group(*blocks), *_legend(side_by_side), *notes)
    main, *others = dict.fromkeys([side_by_side[0].head, *evaluation.heads])
    add_numbers(
        table, f"{main}\nacc. %", "interval", "change\npoints", *(f"{head}\nacc. %" for head in others)
    )
    clean = judged[0].robustness[0].accuracy[main]
    for name, measured in zip(_names(rows), judged[0].robustness, strict=True):
        change = (
            ""
            if measured.condition.corruption == CLEAN
            else f"{100 * (measured.accuracy[main] - clean):+.1f}"
        )
        table.add_row(
            name,
            measured.condition.text,
            percent(measured.accuracy[main]),
            percent_range(measured.interval[main]),
            change,
            *(percent(measured.accuracy[head]) for head in others),
        )
    notes.append(f"Interval: Wilson's, {confidence_level(evaluation.confidence)}. Change: from clean.")
    return titled(f"Robustness{_on([evaluation])}", table, *notes)


def _with_intervals(heads: Collection[str]) -> Collection[str]:
    """Return the heads whose intervals fit: all heads if they are few, otherwise the main one."""
    return heads if len(heads) <= _HEADS_WITH_INTERVALS else (main_head(heads),)


def _headings(heads: Collection[str]) -> list[str]:
    """Return the headings of `_cells`."""
    with_intervals = _with_intervals(heads)
    return [name for head in heads for name in ((head, "interval") if head in with_intervals else (head,))]


def _cells(by_head: Mapping[str, tuple[float | None, Interval | None]]) -> list[str]:
    """Return the cells of each head's share and of the intervals that fit; "-" for what does not exist."""
    with_intervals = _with_intervals(by_head)
    cells = []
    for head, (share, interval) in by_head.items():
        cells.append(percent(share))
        if head in with_intervals:
            cells.append(percent_range(interval) if interval else "-")
    return cells


def _main_heads(evaluations: Sequence[Evaluation]) -> str:
    """Return which head is reported, in words."""
    names = dict.fromkeys(main_head(e.heads) for e in evaluations)
    return "/".join("decision rule" if name == DECISION else f"{name} head" for name in names)


def verdict_paragraphs(sentences: Sequence[str]) -> RenderableType:
    """Return the verdict of the evaluation, one paragraph per sentence."""
    return titled("Verdict", Group(*map(verbatim, sentences)))


def _names(rows: Sequence[Condition]) -> list[str]:
    """Return each corruption's name where it begins, and nothing after."""
    return [
        row.corruption if i == 0 or rows[i - 1].corruption != row.corruption else ""
        for i, row in enumerate(rows)
    ]


def _blocks(
    heading: str,
    values: Sequence[str],
    counts: Sequence[object],
    columns: Sequence[tuple[str, Sequence[dict[str, float]] | Sequence[dict[str, float | None]]]],
) -> RenderableType:
    """Return tables with one row per value, as many columns as fit: (heading, shares by value per member)."""
    blocks = []
    for start in range(0, len(columns), BLOCK):
        block = columns[start : start + BLOCK]
        table = new_table()
        table.add_column(verbatim(printable(heading)))
        add_numbers(table, "n", *(name for name, _ in block))
        for value, n in zip(values, counts, strict=True):
            table.add_row(cropped(value), str(n), *(_mean(value, members) for _, members in block))
        blocks.append(table)
    return Group(*blocks)


def _mean(value: str, members: Sequence[dict[str, float]] | Sequence[dict[str, float | None]]) -> str:
    shares = [share for member in members if (share := member.get(value)) is not None]
    return percent(statistics.fmean(shares)) if shares else "-"


def _shortlist(groups: Sequence[GroupAccuracy], binned: bool) -> list[GroupAccuracy | None]:
    """Return the groups to show, None for those between the ends of a long list."""
    if binned or len(groups) <= LISTED:
        return list(groups)
    return [*groups[: LISTED // 2], None, *groups[-LISTED // 2 :]]


def _legend(side_by_side: Sequence[Contender]) -> list[str]:
    return _numbered(
        printable(c.name) + (f", mean of {len(c.members)} seeds" if len(c.members) > 1 else "")
        for c in side_by_side
    )


def _numbered(texts: Iterable[str]) -> list[str]:
    """Return one note per number of a row or column, from 1."""
    return [f"{number}: {text}" for number, text in enumerate(texts, start=1)]


def _head_of(side_by_side: Sequence[Contender]) -> str:
    return "/".join(dict.fromkeys(c.head for c in side_by_side)).capitalize()


def _on(evaluations: Sequence[Evaluation]) -> str:
    return f" on {printable(evaluations[0].split)}, n = {evaluations[0].n}"


def _spread(spread: Spread | None, scale: float = 100, digits: int = 1) -> str:
    if spread is None:
        return "-"
    below = "" if spread.sd is None else f"\n±{scale * spread.sd:.{digits}f}"
    return f"{scale * spread.mean:.{digits}f}{below}"


def _times(count: int) -> str:
    return "one comparison" if count == 1 else f"{count} comparisons"


def _with_interval(share: float | None, interval: Interval | None) -> str:
    return f"{percent(share)}\n{percent_range(interval)}" if interval else percent(share)
