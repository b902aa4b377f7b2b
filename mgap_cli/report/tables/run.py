"""Tables of a run's report, from the documents that its commands wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType

from mgap_cli.report.layout import (
    add_numbers,
    confidence_level,
    new_table,
    p_value,
    percent,
    printable,
    titled,
    verbatim,
)
from mgap_cli.report.tables.movement import measured_split
from mgap_cli.runs.layout import STAGES
from mgap_cli.runs.reader import RunFolder

Document = Mapping[str, Any]

LEADS = "_leads_share"  # the ending of the keys of a gap's leading modalities


def stage_table(run: RunFolder) -> RenderableType:
    """Return what was trained: method, epochs, the chosen epoch and the reason, time."""
    table = new_table()
    table.add_column("stage")
    table.add_column("method")
    add_numbers(table, "epochs", "epoch chosen")
    table.add_column("chosen on")
    add_numbers(table, "fused, last epoch\n%", "time\ns", "samples/s\nlast epoch")
    for stage in STAGES:
        entries = [entry for entry in run.epochs if entry["stage"] == stage]
        if not entries:
            continue
        checkpoint = run.checkpoints.get(stage)
        chosen = checkpoint.selected if checkpoint else {}
        last = entries[-1]
        method = checkpoint.method if checkpoint else run.settings.get(f"{stage}.method", "-")
        seconds = sum(entry.get("seconds", 0.0) for entry in entries)
        table.add_row(
            verbatim(stage if checkpoint else f"{stage} (not finished)"),
            verbatim(printable(str(method))),
            str(len(entries)),
            str(chosen.get("epoch", "-")),
            verbatim(printable(str(chosen.get("on", "-")))),
            percent(last.get(measured_split(entries), {}).get("fused")),
            f"{seconds:.0f}",
            f"{last.get('samples_per_second', 0):.0f}",
        )
    return titled("Stages", table)


def split_table(document: Document) -> RenderableType:
    """Return the fits in a document of analyze-gap, one row per split."""
    fits = document["fits"]
    first = next(iter(fits.values()))["modalities"][0]
    table = new_table()
    table.add_column("split")
    add_numbers(
        table, "n", "balanced\n%", "mean\n|gap|", "mean\ngap", f"{printable(first)}\nleads %", "½ at\n|gap|"
    )
    table.add_column("components: role, weight %, mean (sd)")
    for name, fit in fits.items():
        components = [
            f"{c['role']} {percent(c['weight'])}, {c['mean']:.3f} ({c['sd']:.3f})" for c in fit["components"]
        ]
        table.add_row(
            verbatim(printable(name)),
            str(fit["n"]),
            percent(fit["balanced_share"]),
            f"{fit['mean_absolute_gap']:.3f}",
            f"{fit['mean_gap']:+.3f}",
            percent(fit[f"{first}_leads"]),
            "-" if fit["crossing"] is None else f"{fit['crossing']:.3f}",
            verbatim(printable("; ".join(components))),
        )
    note = "A gap that is far smaller on train than on the other splits shows memorised samples."
    return titled("Gap by split", table, note)


def evaluation_tables(document: Document) -> list[RenderableType]:
    """Return the tables of heads, gaps, differences and classes from evaluate.json."""
    evaluations = document["evaluations"]
    splits = ", ".join(dict.fromkeys(f"{e['split']}, n = {e['n']}" for e in evaluations))
    tables = [_heads(evaluations, splits), _gaps(evaluations, splits)]
    if document["comparisons"]:
        tables.append(_differences(document["comparisons"]))
    return [*tables, *_decision_rules(evaluations), _classes(evaluations, splits)]


def _heads(evaluations: Sequence[Document], on: str) -> RenderableType:
    table = new_table()
    table.add_column("checkpoint")
    table.add_column("head")
    add_numbers(table, "accuracy\n%", "interval", "macro-F1\n%", "interval", "mAP\n%", "interval")
    add_numbers(table, "calibration\nerror %")
    for e in evaluations:
        for head, m in e["heads"].items():
            table.add_row(
                verbatim(printable(f"{e['name']} ({e['method']}, seed {e['seed']})")),
                verbatim(printable(head)),
                percent(m["accuracy"]),
                _range(m["accuracy_interval"]),
                percent(m["macro_f1"]),
                _range(m["macro_f1_interval"]),
                percent(m["mean_average_precision"]),
                _range(m.get("mean_average_precision_interval")),
                percent(m.get("ece")),
            )
    return titled(f"Evaluation on {printable(on)}", table, _interval_note(evaluations[0]["confidence"]))


def _gaps(evaluations: Sequence[Document], on: str) -> RenderableType:
    table = new_table()
    table.add_column("checkpoint")
    leads = [key for key in next((e["gap"] for e in evaluations if e["gap"]), {}) if key.endswith(LEADS)]
    leads = leads[: 1 if len(leads) == 2 else None]  # of two modalities the second leads in the rest
    columns = [f"{printable(key.removesuffix(LEADS))}\nleads %" for key in leads]
    add_numbers(table, "mean\n|gap|", "interval", "median\n|gap|", "mean\ngap", *columns, "balanced\n%")
    for e in evaluations:
        gap = e["gap"]
        if gap is None:
            continue
        low, high = gap["mean_absolute_interval"]
        table.add_row(
            verbatim(printable(e["name"])),
            f"{gap['mean_absolute']:.3f}",
            f"{low:.3f}-{high:.3f}",
            f"{gap['median_absolute']:.3f}",
            f"{gap['mean_signed']:+.3f}",
            *(percent(gap[key]) for key in leads),
            percent(gap["balanced_share"]),
        )
    note = "balanced: posterior of imbalance under 1/2, by the mixture of the first checkpoint."
    return titled(f"Modality gap on {printable(on)}", table, note)


def _differences(comparisons: Sequence[Document]) -> RenderableType:
    table = new_table()
    table.add_column("compared")
    table.add_column("head")
    add_numbers(table, "difference\npoints", "interval\npoints", "McNemar\np", "after Holm\np", "n")
    for c in comparisons:
        low, high = c["interval"]
        adjusted = c.get("mcnemar_p_holm")
        table.add_row(
            verbatim(printable(f"{c['b']} minus {c['a']}")),
            verbatim(printable(c["head"])),
            f"{100 * c['accuracy_difference']:+.1f}",
            f"{100 * low:+.1f} to {100 * high:+.1f}",
            p_value(c["mcnemar_p"]),
            "-" if adjusted is None else p_value(adjusted),
            str(c["n"]),
        )
    note = f"Intervals: {confidence_level(comparisons[0]['confidence'])} paired bootstrap."
    return titled("Differences in accuracy on the same samples", table, note)


def _decision_rules(evaluations: Sequence[Document]) -> list[RenderableType]:
    """Return one table per checkpoint that has several heads."""
    tables: list[RenderableType] = []
    for e in evaluations:
        rules, decision = e.get("decision_rules"), e.get("decision")
        if not rules:
            continue
        table = new_table()
        table.add_column("rule")
        add_numbers(table, "accuracy\n%", "interval", "to fused\npoints", "interval\npoints")
        add_numbers(table, "McNemar\np", "after Holm\np", "on validation\n%")
        for row in rules["rows"]:
            low, high = row["difference_interval"]
            name = row.get("rule") or f"{row['head']} alone"
            table.add_row(
                verbatim(printable(name + ("*" if name == rules["chosen_by_validation"] else ""))),
                percent(row["accuracy"]),
                _range(row["accuracy_interval"]),
                f"{100 * row['difference_to_fused']:+.1f}",
                f"{100 * low:+.1f} to {100 * high:+.1f}",
                p_value(row["mcnemar_p"]),
                p_value(row["mcnemar_p_holm"]),
                percent(row["validation_accuracy"]),
            )
        notes = ["* the rule that validation chooses."] if rules["chosen_by_validation"] else []
        notes += [f"Reported: {printable(decision['name'])}."] if decision else []
        notes += [printable(rules["sentence"])] if rules["sentence"] else []
        title = f"Decision rules of {printable(e['name'])} on {printable(e['split'])}, n = {e['n']}"
        tables.append(titled(title, table, *notes))
    return tables


def _classes(evaluations: Sequence[Document], on: str) -> RenderableType:
    columns = [(number, e, head) for number, e in enumerate(evaluations, start=1) for head in e["heads"]]
    table = new_table()
    table.add_column("class")
    add_numbers(table, "n", *(f"{number}\n{printable(head)}" for number, _, head in columns))
    first = evaluations[0]
    for i, name in enumerate(first["classes"]):
        shares = [_class_share(e, head, name) for _, e, head in columns]
        table.add_row(verbatim(printable(name)), str(first["class_counts"][i]), *shares)
    legend = [f"{number}: {printable(e['name'])}." for number, e in enumerate(evaluations, start=1)]
    note = f"In brackets: Wilson's {confidence_level(first['confidence'])} interval."
    return titled(f"Accuracy by class, %, on {printable(on)}", table, *legend, note)


def _class_share(e: Document, head: str, name: str) -> str:
    """Return a head's accuracy on the class `name` with its interval; "-" for a class without samples."""
    if name not in e["classes"]:
        return "-"
    position, m = e["classes"].index(name), e["heads"][head]
    share, intervals = percent(m["per_class_accuracy"][position]), m.get("per_class_accuracy_interval")
    return f"{share} ({_range(intervals[position])})" if intervals and intervals[position] else share


def move_tables(document: Document) -> list[RenderableType]:
    """The moves of movement.json: by the fixed mixture, and by the refitted ones."""
    tables: list[RenderableType] = []
    for movement in document["since_first"]:
        fixed, refitted = movement["fixed"], movement["refitted"]
        table = new_table()
        table.add_column("from")
        table.add_column("to")
        add_numbers(table, "n\nfixed", "of from\n%", "interval", "n\nrefitted", "of from\n%", "interval")
        for by_fixed, by_refitted in zip(fixed["moves"], refitted["moves"], strict=True):
            cells = [
                cell
                for move in (by_fixed, by_refitted)
                for cell in (
                    str(move["samples"]),
                    percent(move["share_of_before"]),
                    _range(move["interval"]),
                )
            ]
            table.add_row(by_fixed["before"], by_fixed["after"], *cells)
        first, last = document["checkpoints"][0], movement["checkpoint"]
        title = f"Moves from {first} to {last}, {document['split']}, n = {document['n']}"
        notes = [
            f"fixed: both judged by the mixture of {printable(first)}, so that only samples whose gap "
            "changed can move. refitted: each judged by its own mixture.",
        ]
        change = fixed["change"], *fixed["change_interval"]
        points, low, high = (f"{100 * value:+.1f}" for value in change)
        notes.append(
            f"Imbalanced, fixed mixture: {fixed['imbalanced_before']:.1%} to "
            f"{fixed['imbalanced_after']:.1%}, {points} points ({low} to {high}), "
            f"McNemar p {p_value(fixed['mcnemar_p'])}."
        )
        tables.append(titled(printable(title), table, *notes))
    return [*tables, _scores_of_moves(document)]


def _scores_of_moves(document: Document) -> RenderableType:
    table = new_table()
    table.add_column("from")
    table.add_column("to")
    for modality in document["modalities"]:
        name = printable(modality)
        add_numbers(table, f"mean p {name}\nbefore", "after", "change")
    for move in document["mean_scores"]:
        cells = ["-"] * 6
        if move["by_checkpoint"]:
            ends = zip(move["by_checkpoint"][0], move["by_checkpoint"][-1], strict=True)
            cells = [
                text for then, now in ends for text in (f"{then:.3f}", f"{now:.3f}", f"{now - then:+.3f}")
            ]
        table.add_row(move["before"], move["after"], *cells)
    first, last = document["checkpoints"][0], document["checkpoints"][-1]
    note = "A gap closes because the lagging modality rises, or because the leading one falls."
    return titled(f"How the gaps changed from {printable(first)} to {printable(last)}", table, note)


def _range(interval: Sequence[float] | None) -> str:
    if interval is None:
        return "-"
    low, high = interval
    return f"{percent(low)}-{percent(high)}"


def _interval_note(confidence: float) -> str:
    return f"Intervals: {confidence_level(confidence)}; accuracy Wilson's, macro-F1 bootstrap, mAP jackknife."
