"""Tables for a terminal: readable at 80 columns and without colour.

Each function returns a renderable: a title that states the split and n, a table, notes. Shares are
printed as percentages. Names that users chose (ids, classes, checkpoints) are never read as markup.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.console import RenderableType
from rich.table import Table

from mgap_cli.gap.mixture import GapFit
from mgap_cli.gap.scores import Scores
from mgap_cli.report.layout import (
    add_numbers,
    confidence_level,
    cropped,
    new_table,
    percent,
    percent_range,
    printable,
    titled,
    verbatim,
)
from mgap_cli.stats.arrays import BoolArray
from mgap_cli.stats.intervals import wilson_interval


def component_table(fit: GapFit, split: str = "") -> RenderableType:
    """The mixture's components: role, weight, mean and standard deviation, and share of samples."""
    table = new_table()
    table.add_column("component")
    add_numbers(table, "k", "weight %", "mean", "sd", "samples", "share %")
    n = len(fit.scores)
    tests = fit.bimodality
    for k in range(len(fit.mixture.weights)):
        count = int((fit.component == k).sum())
        cells = [percent(fit.mixture.weights[k]), f"{fit.mixture.means[k]:.3f}", f"{fit.mixture.sds[k]:.3f}"]
        if tests and tests.weights:
            low, high = tests.weights[k]
            below = [f"{percent(low)}-{percent(high)}"]
            below += [f"{low:.3f}, {high:.3f}" for low, high in (tests.means[k], tests.sds[k])]
            cells = [f"{value}\n{interval}" for value, interval in zip(cells, below, strict=True)]
        table.add_row(verbatim(printable(fit.role(k))), str(k), *cells, str(count), percent(count / n))
    over = printable(fit.gap_label)
    notes = []
    if tests and tests.balanced:
        low, high = tests.balanced
        notes.append(
            f"Below each value, and of the {fit.balanced_share:.1%} balanced samples "
            f"({percent(low)}-{percent(high)}): {confidence_level(tests.confidence)} bootstrap interval."
        )
    return titled(f"Mixture over {over}{_of(split, n)}", table, *notes)


def diagnostics_table(fit: GapFit, split: str = "") -> RenderableType:
    """How well the mixture fits: BIC and ICL by number of components, log-likelihood, and the border."""
    table = new_table()
    table.add_column("components")
    add_numbers(table, "BIC", "above\nthe best", "ICL", "above\nthe best")
    table.add_column("")
    best = min(fit.bic, key=lambda k: fit.bic[k]) if fit.bic else 0
    for k, bic in sorted(fit.bic.items()):
        fitted = "fitted" if k == len(fit.mixture.weights) else ""
        marks = ", ".join(filter(None, [*_bests(fit, k), fitted]))
        icl, least = fit.icl[k], min(fit.icl.values())
        cells = (bic, bic - fit.bic[best], icl, icl - least)
        table.add_row(str(k), *(f"{value:.1f}" for value in cells), marks)
    n = len(fit.scores)
    notes = [f"Log-likelihood {fit.log_likelihood:.1f} nats, {fit.log_likelihood / n:.3f} per sample."]
    if fit.crossing is None:
        notes.append("No gap has a posterior of imbalance of one half: every sample counts as balanced.")
    else:
        notes.append(f"The posterior of imbalance reaches one half at |gap| = {fit.crossing:.3f}.")
    return titled(f"Fit diagnostics{_of(split, n)}", table if fit.bic else None, *notes)


def lead_table(fit: GapFit, confidence: float, split: str = "") -> RenderableType:
    """The gap by which modality gives the true class the higher probability. confidence: of the intervals."""
    rows = [(f"{name} leads" if name else "equal", mask) for name, mask in fit.scores.by_leader()]
    title = f"Gap by leading modality{_of(split, len(fit.scores))}"
    return titled(title, _groups(fit, [(name, mask) for name, mask in rows if mask.any()], confidence))


def split_table(fits: Sequence[tuple[str, GapFit]]) -> RenderableType:
    """Return one table with the same measures of several splits; fits: (name of the split, fit)."""
    note = "A gap that is far smaller on train than on the other splits shows memorised samples."
    return titled("Gap by split", _side_by_side(fits, fits[0][1].scores.modalities), note)


def pair_table(fits: Sequence[tuple[str, GapFit]]) -> RenderableType:
    """The same measures on every two modalities, side by side: (name, fit) each."""
    if len(fits) == 1:
        ((_, fit),) = fits
        names = fit.scores.modalities
        return titled("Gap", _side_by_side([(" - ".join(names), fit)], names))
    return titled("Gap by pair of modalities", _side_by_side(fits, ("first", "second")))


def _side_by_side(fits: Sequence[tuple[str, GapFit]], modalities: Sequence[str]) -> Table:
    table = new_table()
    table.add_column("")
    for name, _ in fits:
        table.add_column(verbatim(printable(name)), justify="right")
    measures = [_split_measures(fit, modalities) for _, fit in fits]
    for name in dict.fromkeys(name for measured in measures for name in measured):
        table.add_row(verbatim(name), *(m.get(name, "-") for m in measures))
    return table


def posterior_table(
    fit: GapFit, top: int = 20, split: str = "", chosen: BoolArray | None = None
) -> RenderableType:
    """The `top` samples most likely to be imbalanced, largest gap first among equals; of (N,) `chosen`."""
    scores, gap = fit.scores, fit.scores.gap
    rows = np.arange(len(gap)) if chosen is None else np.flatnonzero(chosen)
    order = rows[np.lexsort((-np.abs(gap[rows]), -fit.posterior[rows]))][:top]
    table = new_table()
    table.add_column("id")
    table.add_column("label")
    add_numbers(table, *(f"p\n{printable(name)}" for name in scores.modalities), "gap", "post.", "k")
    for head in scores.predicted:
        table.add_column(verbatim(f"{printable(head)}\nsays"))
    for i in order:
        table.add_row(
            cropped(scores.ids[i], middle=True),  # ids tend to differ at their ends
            cropped(scores.classes[scores.labels[i]]),
            *(f"{p[i]:.3f}" for p in scores.p.values()),
            f"{gap[i]:+.3f}",
            f"{fit.posterior[i]:.3f}",
            str(fit.component[i]),
            *(cropped(scores.classes[predicted[i]]) for predicted in scores.predicted.values()),
        )
    title = f"Most imbalanced samples{_of(split, len(rows))}, {len(order)} shown"
    roles = ", ".join(f"{k} {printable(fit.role(k))}" for k in range(len(fit.mixture.weights)))
    note = f"gap = {printable(scores.gap_formula)}; post. = posterior of imbalance; k = component ({roles})."
    return titled(title, table, note)


def _groups(fit: GapFit, groups: Sequence[tuple[str, BoolArray]], confidence: float) -> Table:
    """Return a table with one row per group of samples, given as (name, (N,) mask)."""
    gap, imbalanced = fit.scores.gap, fit.imbalanced
    table = new_table()
    table.add_column("")
    means = (f"mean p\n{printable(name)}" for name in fit.scores.modalities)
    add_numbers(table, "n", "mean\n|gap|", *means)
    add_numbers(table, "imbalanced\n%", f"{confidence_level(confidence)}\ninterval")
    for name, mask in groups:
        n = int(mask.sum())
        count = int(imbalanced[mask].sum())
        table.add_row(
            cropped(name),
            str(n),
            f"{np.abs(gap[mask]).mean():.3f}",
            *(f"{p[mask].mean():.3f}" for p in fit.scores.p.values()),
            percent(count / n),
            percent_range(wilson_interval(count, n, confidence)),
        )
    return table


def _bests(fit: GapFit, k: int) -> list[str]:
    """Say which criteria are smallest for k components."""
    return [
        f"{name} best"
        for name, criterion in (("BIC", fit.bic), ("ICL", fit.icl))
        if k == min(criterion, key=lambda j: criterion[j])
    ]


def _split_measures(fit: GapFit, modalities: Sequence[str]) -> dict[str, str]:
    """Measure name to printed value."""
    scores, gap = fit.scores, fit.scores.gap
    imbalanced = fit.imbalanced
    names = [printable(name) for name in modalities]
    led = [(name, mask) for name, (_, mask) in zip(names, scores.by_leader(), strict=False)]
    led = led[: 1 if len(led) == 2 else None]  # of two modalities the second leads in the rest
    measures = {
        "n": str(len(scores)),
        "mean |gap|": f"{np.abs(gap).mean():.3f}",
        "median |gap|": f"{np.median(np.abs(gap)):.3f}",
        **({f"mean gap ({names[0]} - {names[1]})": f"{gap.mean():+.3f}"} if len(names) == 2 else {}),
        **{f"{name} leads %": percent(mask.mean()) for name, mask in led},
        "balanced %": percent(fit.balanced_share),
        "imbalanced %": percent(imbalanced.mean()),
        **{
            f"{name} leads % of imbalanced": percent(mask[imbalanced].mean()) if imbalanced.any() else "-"
            for name, mask in led
        },
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
