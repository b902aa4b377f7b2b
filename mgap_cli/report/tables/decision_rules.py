"""The table "Decision rules" of `evaluate`: every rule of one checkpoint with tests, or of several."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType

from mgap_cli.evaluation.evaluate import Judgement
from mgap_cli.evaluation.rule_table import RuleTable
from mgap_cli.evaluation.seeds import RunGroup
from mgap_cli.report.layout import add_numbers, new_table, p_value, percent, printable, titled, verbatim
from mgap_cli.report.tables.evaluation import BLOCK, Contender, contenders


def rules_table(judged: Sequence[Judgement], groups: Sequence[RunGroup]) -> RenderableType | None:
    """Return the table of all checkpoints that have several heads; None if there is none."""
    if len(judged) == 1:
        return _one(judged[0])
    numbered = dict(enumerate(contenders(judged, groups), start=1))  # as in the other tables
    shown = {number: c for number, c in numbered.items() if all(j.rules for j in c.members)}
    return _several(shown) if shown else None


def _one(judgement: Judgement) -> RenderableType | None:
    found, decision = judgement.rules, judgement.decision
    if found is None:
        return None
    table = new_table()
    table.add_column("rule")
    add_numbers(table, "accuracy\n%", "interval", "to fused\npoints", "interval", "p\nHolm")
    add_numbers(table, "on val\n%")
    for number, row in enumerate(found.rows):
        low, high = row.difference_interval.to_list()
        chosen = "*" if row.name == found.chosen and not row.is_head else ""
        cells = (
            f"{100 * row.difference:+.1f}",
            f"{100 * low:+.1f}, {100 * high:+.1f}",
            p_value(row.adjusted),
        )
        table.add_row(
            verbatim(printable(row.text) + chosen),
            percent(row.accuracy),
            f"{percent(row.interval.low)}-{percent(row.interval.high)}",
            *(cells if number else ("", "", "")),
            percent(row.validation),
        )
    notes = ["No validation samples: rules that learn are left out."]
    if found.chosen:
        notes = ["* the rule that validation chooses: --rule auto reports it."]
    notes.append("p: McNemar's, after Holm's correction. Intervals: Wilson's, and paired bootstrap.")
    notes.append("on val: a rule that learns is tested on samples to which it was not fitted (5 folds).")
    if decision:
        notes.append(f"Reported: {decision.name}{' (auto)' if decision.asked != decision.name else ''}.")
    if found.sentence:
        notes.append(found.sentence)
    e = judgement.evaluation
    return titled(f"Decision rules on {printable(e.split)}, n = {e.n}", table, *notes)


def _several(shown: Mapping[int, Contender]) -> RenderableType:
    tables = [[rules for j in c.members if (rules := j.rules)] for c in shown.values()]
    names = dict.fromkeys(row.text for found in tables for rules in found for row in rules.rows)
    blocks = []
    for start in range(0, len(shown), BLOCK):
        table = new_table()
        table.add_column("rule")
        add_numbers(table, *map(str, [*shown][start : start + BLOCK]))
        for name in names:
            cells = [_cell(found, name) for found in tables[start : start + BLOCK]]
            table.add_row(verbatim(printable(name)), *cells)
        blocks.append(table)
    notes = [
        "Accuracy in % and, below it, the difference to the fused head in points. One * for each checkpoint "
        "whose validation chooses the rule."
    ]
    for (number, contender), found in zip(shown.items(), tables, strict=True):
        seeds = f", mean of {len(found)} seeds" if len(found) > 1 else ""
        notes.append(f"{number}: {printable(contender.name)}{seeds}. {_better(found)}".strip())
    e = next(iter(shown.values())).members[0].evaluation
    return titled(f"Decision rules on {printable(e.split)}, n = {e.n}", Group(*blocks), *notes)


def _cell(found: Sequence[RuleTable], name: str) -> str:
    rows = [row for rules in found for row in rules.rows if row.text == name]
    if not rows:
        return "-"
    stars = "*" * sum(rules.chosen == name for rules in found)
    share = percent(statistics.fmean(row.accuracy for row in rows))
    return f"{share}\n{100 * statistics.fmean(row.difference for row in rows):+.1f}{stars}"


def _better(found: Sequence[RuleTable]) -> str:
    """Return the sentence about rules that beat the fused head: of one checkpoint, or with every seed."""
    if len(found) == 1:
        return found[0].sentence
    names = [row.text for row in found[0].rows]
    always = [
        name
        for name in names
        if all(any(row.text == name and row.difference > 0 for row in rules.rows) for rules in found)
    ]
    return f"Better than the fused head with every seed: {printable(', '.join(always))}." if always else ""
