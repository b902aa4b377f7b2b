"""The conclusions of `analyze-gap`: the verdict, imbalanced samples, and the comparison with listeners."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from rich.console import RenderableType

from mgap_cli.analysis.breakdown import Breakdown
from mgap_cli.analysis.identification import Identification
from mgap_cli.analysis.listeners import HumanComparison
from mgap_cli.gap.mixture import GapFit
from mgap_cli.report.layout import (
    add_numbers,
    confidence_level,
    cropped,
    new_table,
    percent,
    printable,
    shortened,
    titled,
    verbatim,
)

LISTED = 20  # groups that are shown; of more, the most and the least imbalanced
EXAMPLES = 3
MOST_HEADS = 4  # modalities whose accuracies are columns beside others


def verdict_table(fit: GapFit, split: str = "") -> RenderableType:
    """Is the distribution bimodal? The table has the tests and the result of each; the verdict follows."""
    tests = fit.bimodality
    assert tests is not None, "examine the fit first"
    title = _verdict(fit, split)
    level = 1 - tests.confidence
    rows = (
        ("likelihood ratio 2 : 1", tests.ratio, 1, "more than one Gaussian", "one Gaussian suffices"),
        (
            "2 : one log-concave",
            tests.log_concave,
            1,
            "not one population of light tails",
            "one skewed population suffices",
        ),
        ("Hartigan's dip", tests.dip, 4, "more than one peak", "one peak suffices"),
        ("Kolmogorov-Smirnov fit", tests.fit, 4, "the mixture is approximate", "the mixture fits"),
    )
    if not any(test for _, test, *_ in rows):
        return titled(title)
    table = new_table()
    table.add_column("test")
    add_numbers(table, "statistic", "p")
    table.add_column("result")
    for name, test, digits, small, large in rows:
        if test:
            bound = "<=" if test.p_value <= 1 / (1 + tests.resamples) else ""
            says = small if test.p_value < level else large
            table.add_row(name, f"{test.statistic:.{digits}f}", f"{bound}{test.p_value:.3f}", says)
    notes = [f"p: bootstrap, {tests.resamples} resamples; level {level:.3g}."]
    if tests.lead is not None and tests.lead_interval is not None:
        first = printable(fit.scores.modalities[0])
        low, high = tests.lead_interval
        notes.append(
            f"{first} leads in {tests.lead:.1%} of the imbalanced "
            f"({confidence_level(tests.confidence)} interval {percent(low)}-{percent(high)})."
        )
    return titled(title, table, *notes)


def conclusion_table(fits: Mapping[str, GapFit], split: str | None = None) -> RenderableType:
    """Return the verdict, its reasons and its cautions, which are the last lines on the screen.

    It is for `split`, with the other splits beside it; without `split`, for every pair of modalities.
    """
    names = [split] if split else list(fits)
    table = new_table()
    table.add_column("split" if split else "modalities")
    modalities = fits[names[0]].scores.modalities
    heads = modalities if split and len(modalities) <= MOST_HEADS else ()
    add_numbers(table, "n", "mean\n|gap|", "balanced\n%", "interval")
    add_numbers(table, *(f"{shortened(printable(head), 12)}\nacc. %" for head in heads))
    for name, fit in fits.items():
        tests, predicted = fit.bimodality, fit.scores.predicted
        interval = "-".join(map(percent, tests.balanced)) if tests and tests.balanced else "-"
        table.add_row(
            cropped(name, middle=True),
            str(len(fit.scores)),
            f"{np.abs(fit.scores.gap).mean():.3f}",
            percent(fit.balanced_share),
            interval,
            *(percent((predicted[h] == fit.scores.labels).mean()) if h in predicted else "-" for h in heads),
        )
    notes = []
    for name in names:
        fit, where = fits[name], f"{printable(name)}: " if len(names) > 1 else ""
        assert fit.bimodality is not None, "examine the fit first"
        if where:
            notes.append(f"{where}{printable(fit.bimodality.sentence)}")
        notes += [f"Warning: {where}{printable(warning)}" for warning in fit.warnings]
    if len(names) > 1:
        return titled("Verdicts", table, *notes)
    return titled(_verdict(fits[names[0]], names[0] if split else ""), table, *notes)


def _verdict(fit: GapFit, split: str) -> str:
    assert fit.bimodality is not None, "examine the fit first"
    where = f", {printable(split)}" if split else ""
    return f"Verdict{where}, n = {len(fit.scores)}: {printable(fit.bimodality.sentence)}"


def breakdown_table(
    breakdown: Breakdown, fit: GapFit, split: str = "", condition: str = ""
) -> RenderableType:
    """The share of imbalanced in each group of a column."""
    n = sum(group.n for group in breakdown.groups)
    names = [printable(name) for name in fit.scores.modalities]
    table = new_table()
    table.add_column(verbatim(printable(breakdown.column)))
    add_numbers(table, "n", "imbalanced\n%", f"{confidence_level(breakdown.confidence)}\ninterval")
    add_numbers(table, "mean\n|gap|", *(f"mean p\n{name}" for name in names), f"{names[0]}\nleads %")
    groups = breakdown.groups
    end = len(groups) if len(groups) <= LISTED else LISTED // 2
    for i, group in enumerate(groups):
        if end <= i < len(groups) - end:
            if i == end:
                table.add_row(f"... {len(groups) - 2 * end} between")
            continue
        table.add_row(
            cropped(group.name, middle=True),
            str(group.n),
            percent(group.share),
            f"{percent(group.interval.low)}-{percent(group.interval.high)}",
            f"{group.mean_gap:.3f}",
            *(f"{p:.3f}" for p in group.p),
            percent(group.leads),
        )
    parts = [
        f"Imbalanced by {printable(breakdown.column)}",
        printable(split),
        printable(condition),
        f"n = {n}",
    ]
    note = (
        "Interval: Wilson's."
        if not breakdown.binned
        else "Interval: Wilson's. Bins of about equal n, in their order."
    )
    return titled(", ".join(filter(None, parts)), table, note)


def identification_table(
    identification: Identification, split: str = "", condition: str = ""
) -> RenderableType:
    """How well the posterior, |gap| and the fused loss find the samples that are known to be imbalanced."""
    level = confidence_level(identification.confidence)
    table = new_table()
    table.add_column("detector")
    add_numbers(table, "ROC-AUC", "average\nprecision", "ROC-AUC minus\nposterior's")
    for d in identification.detectors:
        cells = [
            f"{d.roc_auc:.3f}\n{d.roc_auc_interval.low:.3f}, {d.roc_auc_interval.high:.3f}",
            f"{d.average_precision:.3f}\n"
            f"{d.average_precision_interval.low:.3f}, {d.average_precision_interval.high:.3f}",
        ]
        if d.ahead is not None and d.ahead_interval is not None:
            cells.append(f"{d.ahead:+.3f}\n{d.ahead_interval.low:+.3f}, {d.ahead_interval.high:+.3f}")
        table.add_row(d.name, *cells)
    truly, called, hits = identification.imbalanced, identification.called, identification.correct
    share = truly / identification.n
    notes = [
        f"Truly imbalanced: {truly} ({share:.1%}, the average precision of chance). "
        f"Below each value: {level} bootstrap interval.",
        f"Posterior >= 1/2: {called} samples, of which {hits} are truly imbalanced "
        f"(precision {hits / max(called, 1):.1%}, recall {hits / truly:.1%}).",
    ]
    if identification.named:
        right, named = identification.right, identification.named
        notes.append(f"The intact modality leads in {right} of {named} of these ({right / named:.1%}).")
    parts = [
        "Identification",
        printable(split),
        f"truth: {printable(identification.column)}",
        printable(condition),
        f"n = {identification.n}",
    ]
    return titled(", ".join(filter(None, parts)), table, *notes)


def human_table(comparison: HumanComparison, split: str = "", condition: str = "") -> RenderableType:
    """Compare the model's gap with listeners': correlations, and clips that are imbalanced for both."""
    first, second = map(printable, comparison.modalities)
    level = f"{confidence_level(comparison.confidence)}\ninterval"
    table = new_table()
    table.add_column("")
    add_numbers(table, "value", level)
    for c in (comparison.pearson, comparison.spearman):
        cells = (
            ("-", "-")
            if c.value is None or c.interval is None
            else (f"{c.value:+.3f}", f"{c.interval.low:+.3f}, {c.interval.high:+.3f}")
        )
        table.add_row(f"{c.name.capitalize()} correlation of the gaps", *cells)
    kappa = (
        ("-", "-")
        if comparison.kappa is None or comparison.kappa_interval is None
        else (
            f"{comparison.kappa:+.3f}",
            f"{comparison.kappa_interval.low:+.3f}, {comparison.kappa_interval.high:+.3f}",
        )
    )
    table.add_row("Cohen's kappa of the imbalanced sets", *kappa)
    table.add_row("clips on which both agree, %", percent(comparison.agreement), "")
    for name, count in (
        ("imbalanced for both, clips", comparison.both),
        ("for people only", comparison.only_human),
        ("for the model only", comparison.only_model),
        ("for neither", comparison.neither),
    ):
        table.add_row(name, str(count), "")
    voice, face, both = comparison.accuracy
    notes = [
        f"Human gap: votes for the intended emotion by voice minus by face; model: p {first} - p {second}.",
        f"Votes for it: voice {voice:.1%}, face {face:.1%}, both {both:.1%}.",
    ]
    if comparison.unmatched:
        some = ", ".join(shortened(printable(name), 24) for name in comparison.unmatched[:EXAMPLES])
        notes.append(f"Without votes for voice and face: {len(comparison.unmatched)}, such as {some}.")
    parts = ["Listeners and the model", printable(split), printable(condition), f"n = {comparison.n}"]
    return titled(", ".join(filter(None, parts)), table, *notes)
