"""The tables of `analyze-gap` over time: the mixture over the epochs, and the samples that moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import RenderableType

from mgap_cli.analysis.movement import Movement, Transition
from mgap_cli.gap.scores import FUSED
from mgap_cli.report.layout import (
    add_numbers,
    confidence_level,
    cropped,
    new_table,
    p_value,
    percent,
    printable,
    titled,
    verbatim,
)
from mgap_cli.stats.intervals import Interval

SIDE_BY_SIDE = 3  # components whose columns fit beside the accuracies in 80 columns
LISTED = 20  # classes that are shown; of more, those that moved most and least
PATHS = 16

Entries = Sequence[Mapping[str, Any]]
Role = tuple[str, int]  # a component's role, and its number among those of that role


def measured_split(entries: Entries) -> str:
    """Return the split whose accuracies all epochs have: val where there is one, else train."""
    return "val" if all("val" in entry for entry in entries) else "train"


def heads_of_entries(entries: Entries) -> list[str]:
    """Return the heads whose accuracies the epochs record, the fused head first."""
    split = measured_split(entries)
    names = dict.fromkeys(head for entry in entries for head in entry.get(split, {}) if head != "loss")
    return sorted(names, key=lambda head: head != FUSED)


def history_tables(entries: Entries) -> list[RenderableType]:
    """Each epoch's mixture and accuracies: lines of metrics.jsonl."""
    split = measured_split(entries)
    mixtures = [entry["mixture"] for entry in entries if "mixture" in entry]
    roles = component_roles(mixtures)
    heads = heads_of_entries(entries)
    accuracies = [f"{printable(head)}\n%" for head in heads]
    together = len(roles) <= SIDE_BY_SIDE
    table = new_table()
    table.add_column("epoch", no_wrap=True)
    if roles:
        add_numbers(table, "bal.\n%")
        for role, _ in roles:
            name = printable(role).replace("-dominated", "\ndom.")
            add_numbers(table, f"{name}\nw. %", "mean")
    if together:
        add_numbers(table, *accuracies)
    other = new_table()
    other.add_column("epoch", no_wrap=True)
    add_numbers(other, *accuracies)
    for entry in entries:
        name = f"{printable(str(entry['stage']))} {entry['epoch']}"
        figures = entry.get(split, {})
        shares = [percent(figures.get(head)) for head in heads]
        cells = _mixture_cells(entry.get("mixture"), roles) if roles else []
        table.add_row(verbatim(name), *cells, *(shares if together else []))
        other.add_row(verbatim(name), *shares)
    notes = [f"Accuracies: on {split}, after the epoch."]
    if roles:
        quantity = "|gap|" if mixtures[0]["kind"] == "absolute" else "the gap"
        n = mixtures[0]["n"]
        notes.insert(
            0,
            f"Mixture over {quantity} of {n} training samples, fitted at the start of the epoch. bal. is the "
            "balanced share: samples with a posterior of imbalance below 1/2. w. is the component's weight.",
        )
    else:
        notes.append("No epoch has a mixture: only the adaptive method fits one as it trains.")
    title = f"Over time, {len(entries)} epochs"
    tables: list[RenderableType] = [titled(title, table, *notes)]
    return tables if together else [*tables, titled(f"Accuracies over time, {split}", other)]


def component_roles(mixtures: Entries) -> list[Role]:
    """Return the roles that components of any of these mixtures have, in the order of the fullest's means."""
    roles = [role for m in sorted(mixtures, key=lambda m: -len(m["components"])) for role in by_role(m)]
    return list(dict.fromkeys(roles))


def by_role(mixture: Mapping[str, Any]) -> dict[Role, dict[str, Any]]:
    """Return components by role, and number among those of the same role: what to follow over epochs."""
    counted: Counter[str] = Counter()
    components: dict[Role, dict[str, Any]] = {}
    for component in mixture["components"]:
        role = str(component["role"])
        components[role, counted[role]] = component
        counted[role] += 1
    return components


def _mixture_cells(mixture: Mapping[str, Any] | None, roles: Sequence[Role]) -> list[str]:
    if mixture is None:
        return ["-"] * (1 + 2 * len(roles))
    cells, components = [percent(mixture["balanced_share"])], by_role(mixture)
    for role in roles:
        c = components.get(role)
        cells += [percent(c["weight"]), f"{c['mean']:.3f}"] if c else ["-", "-"]
    return cells


def movement_tables(movement: Movement, top: int) -> list[RenderableType]:
    """Return all tables of the moves; tables by group compare the last checkpoint with the first."""
    tables = [transition_table(movement, k) for k in range(1, len(movement.fits))]
    if len(movement.fits) > 2:
        tables.append(path_table(movement))
    tables.append(score_table(movement))
    tables.append(group_table("leading modality", movement.by_lead(), movement))
    tables.append(group_table("class", movement.by_class(), movement))
    if top:
        tables += [
            mover_table(movement, "imbalanced", "balanced", "Moved to balanced", top),
            mover_table(movement, "imbalanced", "imbalanced", "Stayed imbalanced", top),
            mover_table(movement, "balanced", "imbalanced", "Moved to imbalanced", top),
        ]
    return tables


def transition_table(movement: Movement, k: int) -> RenderableType:
    """Return the numbers of samples by their sides at the first checkpoint and at checkpoint `k`."""
    fixed, refitted = movement.since_first(k), movement.since_first(k, refitted=True)
    level = f"{confidence_level(fixed.confidence)}\ninterval"
    table = new_table()
    table.add_column("from -> to")
    add_numbers(table, "n\nfixed", "of all\n%", "of from\n%", level, "n\nrefitted", "of from\n%", level)
    for (before, after, count, of), (_, _, refitted_count, refitted_of) in zip(
        fixed.rows(), refitted.rows(), strict=True
    ):
        table.add_row(
            f"{before}\n-> {after}",
            str(count),
            percent(count / fixed.n),
            percent(count / of if of else None),
            _range(fixed.interval(count, of)),
            str(refitted_count),
            percent(refitted_count / refitted_of if refitted_of else None),
            _range(refitted.interval(refitted_count, refitted_of)),
        )
    first, last = printable(movement.names[0]), printable(movement.names[k])
    notes = [
        f"fixed: both judged by the mixture of {first}, so that only samples whose gap changed can move.",
        "refitted: each judged by its own mixture, whose border moves too.",
        f"Imbalanced, fixed mixture: {_changed(fixed)}.",
        f"Imbalanced, refitted mixture: {_changed(refitted)}.",
    ]
    return titled(f"Moves from {first} to {last}, {printable(movement.split)}, n = {fixed.n}", table, *notes)


def score_table(movement: Movement) -> RenderableType:
    """How the gaps changed: both modalities' mean score before and after, move by move."""
    table = new_table()
    table.add_column("from -> to")
    add_numbers(table, "n")
    for modality in movement.scores.modalities:
        name = printable(modality)
        add_numbers(table, f"mean p {name}\nbefore", "after", "change")
    for before, after, count, _ in movement.since_first(-1).rows():
        scores = movement.mean_scores(before, after)
        cells = ["-"] * (3 * len(movement.scores.modalities))
        if scores:
            cells = [
                text
                for then, now in zip(scores[0], scores[-1], strict=True)
                for text in (f"{then:.3f}", f"{now:.3f}", f"{now - then:+.3f}")
            ]
        table.add_row(f"{before}\n-> {after}", str(count), *cells)
    ends = f"{printable(movement.names[0])} to {printable(movement.names[-1])}, mixture of the first."
    note = "A gap closes because the lagging modality rises, or because the leading one falls."
    return titled(
        f"How the gaps changed, {printable(movement.split)}, n = {len(movement.scores)}", table, ends, note
    )


def path_table(movement: Movement) -> RenderableType:
    """The sides that samples went through, checkpoint by checkpoint."""
    n = len(movement.scores)
    table = new_table()
    for number in range(len(movement.names)):
        table.add_column(str(number + 1))
    add_numbers(table, "n", "of all\n%")
    paths = movement.paths()
    for sides, count in paths[:PATHS]:
        table.add_row(*sides, str(count), percent(count / n))
    notes = [f"{number}: {printable(name)}." for number, name in enumerate(movement.names, start=1)]
    if len(paths) > PATHS:
        notes.append(f"{len(paths) - PATHS} rarer ones are in --json.")
    return titled(f"Sides over the checkpoints, mixture of the first, n = {n}", table, *notes)


def group_table(what: str, groups: Sequence[tuple[str, Transition]], movement: Movement) -> RenderableType:
    """How many of each group's imbalanced samples recovered, and of its balanced ones worsened."""
    table = new_table()
    table.add_column("")
    add_numbers(table, "n", "imbalanced\nbefore %", "after\n%", "became\nbalanced", "of those\n%")
    add_numbers(
        table, f"{confidence_level(movement.config.analysis.confidence)}\ninterval", "became\nimbalanced"
    )
    end = len(groups) if len(groups) <= LISTED else LISTED // 2
    for i, (name, t) in enumerate(groups):
        if end <= i < len(groups) - end:
            if i == end:
                table.add_row(f"... {len(groups) - 2 * end} between")
            continue
        of = t.were_imbalanced
        table.add_row(
            cropped(name, middle=True),
            str(t.n),
            percent(of / t.n),
            percent((t.stayed_imbalanced + t.worsened) / t.n),
            str(t.recovered),
            percent(t.recovered / of if of else None),
            _range(t.interval(t.recovered, of)),
            str(t.worsened),
        )
    title = f"Moves by {what}, {printable(movement.split)}, n = {len(movement.scores)}"
    ends = f"{printable(movement.names[0])} to {printable(movement.names[-1])}, mixture of the first."
    return titled(title, table, ends)


def mover_table(movement: Movement, before: str, after: str, title: str, top: int) -> RenderableType:
    """Return the samples of one move, sorted by how far they moved or by their present gap."""
    rows = movement.movers(before, after)
    gaps, scores = movement.gaps, movement.scores
    table = new_table()
    table.add_column("id")
    table.add_column("label")
    add_numbers(table, "gap\nbefore", "gap\nafter", "change\nof |gap|", "post.\nbefore", "post.\nafter")
    for i in rows[:top].tolist():
        size = np.abs(gaps[:, i])
        table.add_row(
            cropped(scores.ids[i], middle=True),
            cropped(scores.classes[scores.labels[i]]),
            f"{gaps[0, i]:+.3f}",
            f"{gaps[-1, i]:+.3f}",
            f"{size[-1] - size[0]:+.3f}",
            f"{movement.fixed_posteriors[0, i]:.3f}",
            f"{movement.fixed_posteriors[-1, i]:.3f}",
        )
    count = f"first {min(top, len(rows))} of {len(rows)}" if len(rows) > top else f"n = {len(rows)}"
    title = f"{title}, {printable(movement.split)}, {count}"
    order = "largest change of |gap| first" if before != after else "largest |gap| after first"
    return titled(title, table if len(rows) else None, f"Mixture of the first; {order}.")


def _changed(t: Transition) -> str:
    low, high = t.change_interval.low, t.change_interval.high
    after = (t.stayed_imbalanced + t.worsened) / t.n
    return (
        f"{t.were_imbalanced / t.n:.1%} to {after:.1%}, {100 * t.change:+.1f} points "
        f"({100 * low:+.1f} to {100 * high:+.1f}), McNemar p {p_value(t.p_value)}"
    )


def _range(interval: Interval | None) -> str:
    return f"{percent(interval.low)}-{percent(interval.high)}" if interval else "-"
