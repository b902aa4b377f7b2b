"""Every table: inside its width, no number cut, no markup eaten, and the right numbers in it."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from mgap_cli.config import EvaluateConfig
from mgap_cli.evaluation.metrics import Evaluation, compare, summarise
from mgap_cli.gap.mixture import GapFit
from mgap_cli.report import tables

CONFIG = EvaluateConfig(bootstrap=100)
CLASSES = ("happy", "[red]x[/red]", "a label that is far too long for any column", "empty")


def printed(shown: RenderableType, width: int = 80, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    Console(file=stream, width=width).print(shown)
    stream.flush()
    return raw.getvalue().decode(encoding)


def evaluation(seed: int = 0, perfect: bool = False, n: int = 200) -> Evaluation:
    generator = np.random.default_rng(seed)
    labels = np.random.default_rng(7).integers(0, 3, n)
    logits = {h: generator.normal(size=(n, 4)) for h in ("fused", "audio", "visual")}
    for z in logits.values():
        z[np.arange(n), labels] += 50 if perfect else 1 + seed
    probabilities = {h: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) for h, z in logits.items()}
    p_audio, p_visual = (probabilities[m][np.arange(n), labels] for m in ("audio", "visual"))
    return summarise(
        [str(i) for i in range(n)], labels, CLASSES, probabilities, p_audio, p_visual,
        config=CONFIG, name=f"mgap-runs/[green]a-long-folder-name[/green]-seed{seed}/adapt.pt", split="test",
        stage="adapt", objective="adaptive", seed=str(seed), posterior=generator.random(n),
    )  # fmt: skip


def all_tables(fit: GapFit, other: GapFit) -> list[RenderableType]:
    first, second, perfect = evaluation(0), evaluation(1), evaluation(2, perfect=True)
    return [
        *(t(f, "train") for f in (fit, other) for t in (
            tables.component_table, tables.diagnostics_table, tables.class_table, tables.lead_table,
        )),
        *(tables.posterior_table(f, 8, "val") for f in (fit, other)),
        tables.split_table([("train", fit), ("val", other), ("test", fit)]),
        tables.evaluation_table([first, second, perfect]),
        tables.comparison_table([compare(first, second, CONFIG), compare(first, perfect, CONFIG)]),
        tables.per_class_table([first]),
        tables.per_class_table([first, second, perfect] * 4),
    ]  # fmt: skip


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_layout(fit: GapFit, signed_fit: GapFit, width: int, encoding: str):
    for shown in all_tables(fit, signed_fit):
        wide, text = printed(shown, 1000), printed(shown, width, encoding)
        assert max(map(cell_len, text.splitlines())) <= width, text
        assert numbers(text) >= numbers(wide), text  # what is printed without limit is printed here too


def numbers(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w.])[-+]?\d+\.\d+(?![\w.])", text))


def test_names_are_never_markup(fit: GapFit):
    assert "[red]x[/red]" in printed(tables.class_table(fit))
    assert "two?lines" in printed(tables.class_table(fit))
    assert "[bold]/a/long" in printed(tables.posterior_table(fit), 200)
    assert "[green]a-long" in printed(tables.evaluation_table([evaluation()]), 200)
    assert "[red]x[/red]" in printed(tables.per_class_table([evaluation()]))


def test_cropped_ids_keep_their_ends(fit: GapFit):
    first = max(range(300), key=lambda i: (fit.posterior[i], abs(fit.scores.gap[i])))
    row = printed(tables.posterior_table(fit, 1)).splitlines()[4]
    start, end = row.split()[0].split("…")
    assert len(start) >= 3 and fit.scores.ids[first].startswith(start)
    assert len(end) >= 3 and fit.scores.ids[first].endswith(end)


def test_components_add_up(fit: GapFit):
    rows = [line.split() for line in printed(tables.component_table(fit, "train")).splitlines()]
    assert rows[0][-3:] == ["n", "=", "300"]
    body = {row[0]: row[1:] for row in rows if row and row[0] in ("balanced", "imbalanced")}
    assert sum(int(row[4]) for row in body.values()) == 300
    for k, role in enumerate(("balanced", "imbalanced")):
        share = 100 * np.mean(fit.component == k)
        expected = [str(k), f"{100 * fit.mixture.weights[k]:.1f}", f"{fit.mixture.means[k]:.3f}"]
        assert body[role][:3] == expected
        assert body[role][5] == f"{share:.1f}"


def test_diagnostics_mark_the_smallest_bic(fit: GapFit):
    text = printed(tables.diagnostics_table(fit))
    best = min(fit.bic, key=lambda k: fit.bic[k])
    (line,) = [x for x in text.splitlines()[3:] if x.rstrip().endswith(("best", "best, fitted"))]
    assert line.split()[:3] == [str(best), f"{fit.bic[best]:.1f}", "0.0"]
    assert f"|gap| = {fit.crossing:.3f}" in text


def test_groups_by_hand(fit: GapFit):
    gap = fit.scores.p_audio - fit.scores.p_visual
    mask = fit.scores.labels == 0
    row = next(line for line in printed(tables.class_table(fit)).splitlines() if line.startswith("happy"))
    imbalanced = 100 * np.mean(fit.posterior[mask] >= 0.5)
    name, n, mean_gap, *_, share, interval, audio = row.split()
    assert (name, n, mean_gap) == ("happy", str(mask.sum()), f"{np.abs(gap[mask]).mean():.3f}")
    assert (share, audio) == (f"{imbalanced:.1f}", f"{100 * np.mean(gap[mask] > 0):.1f}")
    low, high = map(float, interval.split("-"))
    assert low < imbalanced < high
    empty = next(line for line in printed(tables.class_table(fit)).splitlines() if line.startswith("empty"))
    assert empty.split() == ["empty", "0", *"------"]
    leads = printed(tables.lead_table(fit))
    assert re.search(rf"audio leads +{(gap > 0).sum()} ", leads)
    assert "equal" not in leads


def test_samples_come_most_imbalanced_first(fit: GapFit):
    lines = printed(tables.posterior_table(fit, 300), 200).splitlines()
    posteriors = [float(m[1]) for line in lines if (m := re.search(r"[+-]\d\.\d{3} +(\d\.\d{3}) ", line))]
    assert len(posteriors) == 300
    assert posteriors == sorted(posteriors, reverse=True)
    assert posteriors[0] == round(fit.posterior.max(), 3)
    assert len(printed(tables.posterior_table(fit, 5), 200).splitlines()) == len(lines) - 295


def test_evaluation_shows_value_and_interval():
    e = evaluation()
    text = printed(tables.evaluation_table([e]), 120)
    for head in e.heads.values():
        assert f" {100 * head.accuracy:.1f} " in text
        assert f"{100 * head.accuracy_interval.low:.1f}-{100 * head.accuracy_interval.high:.1f}" in text
    assert "test, n = 200" in text
    assert "No samples of empty: left out of mAP." in text


def test_comparison_says_which_test():
    a, b = evaluation(0), evaluation(1)
    text = printed(tables.comparison_table([compare(a, b, CONFIG)]), 120)
    assert f"{100 * compare(a, b, CONFIG).difference:+.1f}" in text
    same = printed(tables.comparison_table([compare(a, a, CONFIG)]), 120)
    assert "1.000*" in same
    assert "1.000*" not in text


def test_splits_stand_side_by_side(fit: GapFit, signed_fit: GapFit):
    text = printed(tables.split_table([("train", fit), ("val", signed_fit)]))
    (line,) = [line for line in text.splitlines() if line.startswith("balanced %")]
    assert line.split()[2:] == [f"{100 * f.balanced_share:.1f}" for f in (fit, signed_fit)]


def test_degenerate_fits_have_tables(constant_fit: GapFit):
    assert "every sample counts as balanced" in printed(tables.diagnostics_table(constant_fit), 120)
    assert re.search(r"equal +20 ", printed(tables.lead_table(constant_fit)))
    assert "nan" not in printed(tables.split_table([("train", constant_fit)]))
    assert "0.000" in printed(tables.posterior_table(constant_fit))
