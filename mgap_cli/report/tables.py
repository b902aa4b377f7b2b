"""Tables for a terminal: readable at 80 columns and without colour.

Each function returns a renderable: a title that states the split and n, a table, notes. Shares are
printed as percentages. Names that users chose (ids, classes, checkpoints) are never read as markup.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table

from mgap_cli.config import EvaluateConfig
from mgap_cli.evaluation.metrics import (
    IMBALANCED,
    Booleans,
    Comparison,
    Evaluation,
    Interval,
    wilson_interval,
)
from mgap_cli.gap.mixture import GapFit
from mgap_cli.gap.scores import Scores
from mgap_cli.report.layout import (
    add_numbers,
    cropped,
    new_table,
    percent,
    printable,
    titled,
    verbatim,
)

CONFIDENCE = EvaluateConfig().confidence  # of the intervals of shares by class and by leading modality
BLOCK = 7  # checkpoints that fit side by side, by class, in 80 columns


def component_table(fit: GapFit, split: str = "") -> RenderableType:
    """The mixture's components: role, weight, mean and standard deviation, and share of samples."""
    table = new_table()
    table.add_column("component")
    add_numbers(table, "k", "weight %", "mean", "sd", "samples", "share %")
    n = len(fit.scores)
    for k in range(len(fit.mixture.weights)):
        count = int((fit.component == k).sum())
        table.add_row(
            fit.mixture.role(k),
            str(k),
            percent(fit.mixture.weights[k]),
            f"{fit.mixture.means[k]:.3f}",
            f"{fit.mixture.sds[k]:.3f}",
            str(count),
            percent(count / n),
        )
    over = "|gap|" if fit.mixture.kind == "absolute" else "the signed gap (audio - visual)"
    return titled(f"Mixture over {over}{_of(split, n)}", table)


def diagnostics_table(fit: GapFit, split: str = "") -> RenderableType:
    """How well the mixture fits: BIC by number of components, log-likelihood, and the border."""
    table = new_table()
    table.add_column("components")
    add_numbers(table, "BIC", "above the best")
    table.add_column("")
    best = min(fit.bic, key=lambda k: fit.bic[k]) if fit.bic else 0
    for k, bic in sorted(fit.bic.items()):
        fitted = "fitted" if k == len(fit.mixture.weights) else ""
        marks = ", ".join(filter(None, ["best" if k == best else "", fitted]))
        table.add_row(str(k), f"{bic:.1f}", f"{bic - fit.bic[best]:.1f}", marks)
    n = len(fit.scores)
    notes = [f"Log-likelihood {fit.log_likelihood:.1f} nats, {fit.log_likelihood / n:.3f} a sample."]
    if fit.crossing is None:
        notes.append("No gap has a posterior of imbalance of one half: every sample counts as balanced.")
    else:
        notes.append(f"The posterior of imbalance reaches one half at |gap| = {fit.crossing:.3f}.")
    return titled(f"Fit diagnostics{_of(split, n)}", table if fit.bic else None, *notes)


def class_table(fit: GapFit, split: str = "") -> RenderableType:
    """The gap by class, in the classes' order."""
    rows = [(name, fit.scores.labels == c) for c, name in enumerate(fit.scores.classes)]
    return titled(f"Gap by class{_of(split, len(fit.scores))}", _groups(fit, "class", rows, leads=True))


def lead_table(fit: GapFit, split: str = "") -> RenderableType:
    """The gap by which modality gives the true class the higher probability."""
    gap = fit.scores.gap
    rows = [("audio leads", gap > 0), ("visual leads", gap < 0), ("equal", gap == 0)]
    title = f"Gap by leading modality{_of(split, len(gap))}"
    return titled(title, _groups(fit, "", [(name, mask) for name, mask in rows if mask.any()], leads=False))


def split_table(fits: Sequence[tuple[str, GapFit]]) -> RenderableType:
    """The same measures on several splits side by side: (split name, fit) each."""
    table = new_table()
    table.add_column("")
    for split, _ in fits:
        table.add_column(verbatim(split), justify="right")
    measures = [_split_measures(fit) for _, fit in fits]
    for name in measures[0]:
        table.add_row(name, *(m[name] for m in measures))
    note = "Memorised samples have no gap: a gap far smaller on train than held out is memorisation."
    return titled("Gap by split", table, note)


def posterior_table(fit: GapFit, top: int = 20, split: str = "") -> RenderableType:
    """The `top` samples most likely to be imbalanced, largest gap first among equals."""
    scores, gap = fit.scores, fit.scores.gap
    order = np.lexsort((-np.abs(gap), -fit.posterior))[:top]
    table = new_table()
    table.add_column("id")
    table.add_column("label")
    add_numbers(table, "p\naudio", "p\nvisual", "gap", "post.", "k")
    for head in scores.predicted:
        table.add_column(f"{head}\nsays")
    for i in order:
        table.add_row(
            cropped(scores.ids[i], middle=True),  # ids tend to differ at their ends
            cropped(scores.classes[scores.labels[i]]),
            f"{scores.p_audio[i]:.3f}",
            f"{scores.p_visual[i]:.3f}",
            f"{gap[i]:+.3f}",
            f"{fit.posterior[i]:.3f}",
            str(fit.component[i]),
            *(cropped(scores.classes[predicted[i]]) for predicted in scores.predicted.values()),
        )
    title = f"Most imbalanced samples{_of(split, len(scores))}, {len(order)} shown"
    roles = ", ".join(f"{k} {fit.mixture.role(k)}" for k in range(len(fit.mixture.weights)))
    note = f"gap = p audio - p visual; post. = posterior of imbalance; k = component ({roles})."
    return titled(title, table, note)


def evaluation_table(evaluations: Sequence[Evaluation]) -> RenderableType:
    """Checkpoints below one another: each head's accuracy, fused macro-F1 and mAP, the gap."""
    heads = list(dict.fromkeys(head for e in evaluations for head in e.heads))
    splits = {f"{e.split}, n = {e.n}" for e in evaluations}
    table = new_table()
    table.add_column("checkpoint", overflow="fold")
    add_numbers(table, *(f"{head}\nacc. %" for head in heads))
    add_numbers(table, "macro-F1\n%", "mAP\n%", "mean\n|gap|", "bal.\n%")
    for number, e in enumerate(evaluations):
        if number:
            table.add_row()
        fused = e.heads.get("fused")
        lines = [e.name, _provenance(e), f"{e.split}, n = {e.n}" if len(splits) > 1 else ""]
        table.add_row(
            verbatim("\n".join(printable(line) for line in lines if line)),
            *(
                _with_interval(e.heads[head].accuracy, e.heads[head].accuracy_interval)
                if head in e.heads
                else "-"
                for head in heads
            ),
            _with_interval(fused.macro_f1, fused.macro_f1_interval) if fused else "-",
            percent(fused.mean_average_precision if fused else None),
            f"{e.gap.mean_absolute:.3f}" if e.gap else "-",
            percent(e.gap.balanced if e.gap else None),
        )
    what = f" on {splits.pop()}" if len(splits) == 1 else ""
    notes = [
        f"Below each share: {_level(evaluations[0].confidence)} bootstrap interval. "
        "macro-F1, mAP: fused head. bal.: share of samples with a posterior of imbalance under 1/2."
    ]
    for absent in dict.fromkeys(e.absent for e in evaluations if e.absent):
        notes.append(f"No samples of {', '.join(map(printable, absent))}: left out of mAP.")
    return titled(f"Evaluation{what}", table, *notes)


def comparison_table(comparisons: Sequence[Comparison]) -> RenderableType:
    """Accuracy differences on the same samples, with interval and McNemar's p."""
    table = new_table()
    table.add_column("compared", overflow="fold")
    add_numbers(table, "difference\npoints", "interval\npoints", "only first\nright", "only second\nright")
    add_numbers(table, "McNemar\np")
    for number, c in enumerate(comparisons):
        if number:
            table.add_row()
        table.add_row(
            verbatim(f"{printable(c.b)}\nminus {printable(c.a)}"),
            f"{100 * c.difference:+.1f}",
            f"{100 * c.interval.low:+.1f}, {100 * c.interval.high:+.1f}",
            str(c.test.only_b),
            str(c.test.only_a),
            _p_value(c.test.p_value) + ("*" if c.test.method.startswith("exact") else ""),
        )
    heads = ", ".join(dict.fromkeys(c.head for c in comparisons))
    sizes = ", ".join(dict.fromkeys(str(c.n) for c in comparisons))
    level = _level(comparisons[0].confidence)
    note = (
        f"Interval: {level} paired bootstrap. "
        "McNemar: chi-square with continuity correction; * exact binomial."
    )
    return titled(f"Differences in {heads} accuracy, n = {sizes}, same samples", table, note)


def per_class_table(evaluations: Sequence[Evaluation]) -> RenderableType:
    """Accuracy by class: every head of one checkpoint, or the fused head of several."""
    first = evaluations[0]
    title = f"Accuracy by class, %, on {printable(first.split)}, n = {first.n}"
    if len(evaluations) == 1:
        columns = [(head, first, head) for head in first.heads]
        return titled(title, _per_class(columns), f"{printable(first.name)}.")
    numbered = [(str(i), e, "fused") for i, e in enumerate(evaluations, start=1) if "fused" in e.heads]
    blocks = [_per_class(numbered[i : i + BLOCK]) for i in range(0, len(numbered), BLOCK)]
    legend = [f"{number}: {printable(e.name)}" for number, e, _ in numbered]
    return titled(f"Fused {title[0].lower()}{title[1:]}", Group(*blocks), *legend)


def _per_class(columns: Sequence[tuple[str, Evaluation, str]]) -> Table:
    """One table of (heading, evaluation, head) columns; the classes and n are those of the first."""
    first = columns[0][1]
    table = new_table()
    table.add_column("class")
    add_numbers(table, "n", *(heading for heading, _, _ in columns))
    for c, name in enumerate(first.classes):
        shares = []
        for _, evaluation, head in columns:
            by_class = dict(zip(evaluation.classes, evaluation.heads[head].per_class, strict=True))
            shares.append(percent(by_class.get(name)))
        table.add_row(cropped(name), str(first.class_counts[c]), *shares)
    return table


def _groups(fit: GapFit, heading: str, groups: Sequence[tuple[str, Booleans]], leads: bool) -> Table:
    """A row a group of samples, given as (name, (N,) mask); `leads` adds how often audio leads."""
    gap, imbalanced = fit.scores.gap, fit.posterior >= IMBALANCED
    table = new_table()
    table.add_column(heading)
    add_numbers(table, "n", "mean\n|gap|", "mean p\naudio", "mean p\nvisual")
    add_numbers(table, "imbalanced\n%", f"{_level(CONFIDENCE)}\ninterval")
    add_numbers(table, *["audio\nleads %"] * leads)
    for name, mask in groups:
        n = int(mask.sum())
        if not n:
            table.add_row(cropped(name), "0", *["-"] * (5 + leads))
            continue
        count = int(imbalanced[mask].sum())
        table.add_row(
            cropped(name),
            str(n),
            f"{np.abs(gap[mask]).mean():.3f}",
            f"{fit.scores.p_audio[mask].mean():.3f}",
            f"{fit.scores.p_visual[mask].mean():.3f}",
            percent(count / n),
            _range(wilson_interval(count, n, CONFIDENCE)),
            *[percent((gap[mask] > 0).mean())] * leads,
        )
    return table


def _split_measures(fit: GapFit) -> dict[str, str]:
    """Measure name to printed value."""
    scores, gap = fit.scores, fit.scores.gap
    imbalanced = fit.posterior >= IMBALANCED
    measures = {
        "n": str(len(scores)),
        "mean |gap|": f"{np.abs(gap).mean():.3f}",
        "median |gap|": f"{np.median(np.abs(gap)):.3f}",
        "mean gap (audio - visual)": f"{gap.mean():+.3f}",
        "audio leads %": percent((gap > 0).mean()),
        "balanced %": percent(fit.balanced_share),
        "imbalanced %": percent(imbalanced.mean()),
        "audio leads % of imbalanced": percent((gap[imbalanced] > 0).mean()) if imbalanced.any() else "-",
        "balanced mean": f"{fit.mixture.means[fit.mixture.balanced]:.3f}",
        "posterior 1/2 at |gap|": "-" if fit.crossing is None else f"{fit.crossing:.3f}",
        "BIC prefers K =": str(min(fit.bic, key=lambda k: fit.bic[k])) if fit.bic else "-",
    }
    return {**measures, **_head_accuracies(scores)}


def _head_accuracies(scores: Scores) -> dict[str, str]:
    return {
        f"{head} accuracy %": percent((predicted == scores.labels).mean())
        for head, predicted in scores.predicted.items()
    }


def _of(split: str, n: int) -> str:
    return f", {printable(split)}, n = {n}" if split else f", n = {n}"


def _provenance(e: Evaluation) -> str:
    seed = f"seed {e.seed}" if e.seed else ""
    return ", ".join(filter(None, [e.stage, e.objective, seed]))


def _with_interval(share: float, interval: Interval) -> str:
    return f"{percent(share)}\n{_range(interval)}"


def _range(interval: Interval) -> str:
    return f"{percent(interval.low)}-{percent(interval.high)}"


def _level(confidence: float) -> str:
    return f"{100 * confidence:g} %"


def _p_value(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}" if p > 0 else "<1e-300"
