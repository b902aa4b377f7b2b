"""Which samples are imbalanced, against counts by hand; and gaps of listeners and of the model."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest, pearsonr, spearmanr
from sklearn.metrics import cohen_kappa_score

from mgap_cli.analysis.breakdown import breakdown, usual_columns, where
from mgap_cli.analysis.listener_votes import Votes, read_votes
from mgap_cli.analysis.listeners import compare_with_people
from mgap_cli.config import AnalysisConfig, GapConfig
from mgap_cli.errors import UnfitError, UsageError
from mgap_cli.gap.mixture import GapFit, analyse
from mgap_cli.gap.scores import Scores

CONFIG = AnalysisConfig()
N = 400


def made() -> GapFit:
    g = np.random.default_rng(0)
    one_sided = g.random(N) < np.where(np.arange(N) % 4 == 0, 0.8, 0.2)
    gap = np.where(one_sided, g.normal(0.7, 0.08, N), g.normal(0.05, 0.05, N)) * np.where(
        g.random(N) < 0.9, 1, -1
    )
    columns = {
        "group": [str(1001 + i % 40) for i in range(N)],
        "duration": [f"{v:.3f}" if i else "" for i, v in enumerate(g.gamma(4, 0.5, N))],
        "take": [str(i % 15) for i in range(N)],
        "sex": ["FM"[i % 2] for i in range(N)],
    }
    ids = [f"{1001 + i % 40}_{i // 40:03}_{('ANG', 'HAP', 'SAD', 'NEU')[i % 4]}_XX" for i in range(N)]
    p_audio, p_visual = np.clip(np.maximum(gap, 0), 0, 1), np.clip(np.maximum(-gap, 0), 0, 1)
    scores = Scores(
        ids,
        ("ANG", "HAP", "SAD", "NEU", "DIS"),
        np.arange(N) % 4,
        {"audio": p_audio, "visual": p_visual},
        columns=columns,
    )
    return analyse(scores, GapConfig(n_init=1))


FIT = made()
ALL = np.ones(N, dtype=bool)


@pytest.mark.parametrize("column", ["class", "group", "take", "sex"])
def test_shares_and_intervals(column):
    result = breakdown(FIT, column, ALL, CONFIG)
    labels = [FIT.scores.classes[c] for c in FIT.scores.labels]
    values = np.array(labels if column == "class" else FIT.scores.columns[column])
    assert not result.binned and {g.name for g in result.groups} == set(values)
    assert sum(g.n for g in result.groups) == N
    shares = [g.share for g in result.groups]
    assert shares == sorted(shares, reverse=True)
    for g in result.groups:
        mask = values == g.name
        assert (g.n, g.imbalanced) == (mask.sum(), FIT.imbalanced[mask].sum())
        expected = binomtest(g.imbalanced, g.n).proportion_ci(0.95, method="wilson")
        assert (g.interval.low, g.interval.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
        assert g.mean_gap == pytest.approx(np.abs(FIT.scores.gap[mask]).mean())
        assert g.p == pytest.approx(tuple(p[mask].mean() for p in FIT.scores.p.values()))
        assert g.leads == pytest.approx((FIT.scores.gap[mask] > 0).mean())


def test_durations_are_put_into_quantile_bins():
    result = breakdown(FIT, "duration", ALL, CONFIG)
    assert result.binned and [g.n for g in result.groups[:4]] == pytest.approx([N / 4] * 4, abs=2)
    assert [(g.name, g.n) for g in result.groups[4:]] == [("(none)", 1)]
    starts = [float(g.name.split()[0]) for g in result.groups[:4]]
    assert starts == sorted(starts)
    assert len(breakdown(FIT, "duration", ALL, AnalysisConfig(bins=10)).groups) == 11


def test_the_usual_columns_are_those_with_several_values():
    assert usual_columns(FIT) == ["class", "group", "duration"]


def test_conditions_are_met_together():
    chosen = where(FIT, ["sex=F", "class=ANG"])
    assert chosen.sum() == N / 4
    result = breakdown(FIT, "class", chosen, CONFIG)
    assert [(g.name, g.n) for g in result.groups] == [("ANG", N // 4)]


@pytest.mark.parametrize(
    ("conditions", "words"),
    [(["sex"], "COLUMN=VALUE"), (["size=3"], "no column 'size'"), (["sex=X"], "no sample has this value"),
     (["sex=M", "class=ANG"], "no sample meets")],
)  # fmt: skip
def test_conditions_without_samples_are_reported(conditions, words):
    with pytest.raises(UsageError, match=words):
        where(FIT, conditions)


def votes_file(path: Path, ids: list[str], voice: list[int], face: list[int], both: int = 9) -> Path:
    """A table as CREMA-D's: ten votes per clip and condition, `voice` and `face` of them correct."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(["", *"ADFHNS", "fileName", "numResponses", "agreement"])
        for k, right in enumerate((voice, face, [both] * len(ids))):
            for i, name in enumerate(ids):
                intended = "ADFHNS".index(name.split("_")[2][0])
                counts = [0] * 6
                counts[intended], counts[intended - 1] = right[i], 10 - right[i]
                writer.writerow([str(100_000 * (k + 1) + 1 + i), *counts, name, 10, 0.5])
    return path


def test_listeners_compared_with_the_model(tmp_path):
    g = np.random.default_rng(1)
    ids = FIT.scores.ids
    voice, face = g.integers(0, 11, N), g.integers(6, 11, N)
    voice = np.where(FIT.imbalanced, g.integers(0, 4, N), voice)
    path = votes_file(tmp_path / "tabulatedVotes.csv", ids[:-20], voice[:-20].tolist(), face[:-20].tolist())
    comparison = compare_with_people(FIT, read_votes(path), GapConfig(n_init=1), CONFIG)
    human, model = (voice - face)[:-20] / 10, FIT.scores.gap[:-20]
    np.testing.assert_allclose(comparison.gap, human, atol=1e-12)
    assert comparison.unmatched == ids[-20:]
    assert comparison.accuracy == pytest.approx((voice[:-20].mean() / 10, face[:-20].mean() / 10, 0.9))
    expected = pearsonr(human, model)
    interval = expected.confidence_interval(0.95)
    assert comparison.pearson.value == pytest.approx(expected.statistic)
    assert comparison.pearson.interval.to_list() == pytest.approx([interval.low, interval.high])
    assert comparison.spearman.value == pytest.approx(spearmanr(human, model).statistic)
    a, b = comparison.imbalanced, FIT.imbalanced[:-20]
    assert (comparison.both, comparison.neither) == ((a & b).sum(), (~a & ~b).sum())
    assert comparison.agreement == pytest.approx(np.mean(a == b))
    assert comparison.kappa == pytest.approx(cohen_kappa_score(a, b))
    assert comparison.kappa_interval.low < comparison.kappa < comparison.kappa_interval.high


def test_ids_may_be_files_and_too_few_are_reported():
    votes = Votes(*({"1001_000_ANG_XX": (5, 10)} for _ in range(3)))
    with pytest.raises(UnfitError, match="1 of 400 samples have votes"):
        compare_with_people(FIT, votes, GapConfig(), CONFIG)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.replace("fileName", "clip"), "no column 'fileName'"),
        (lambda t: t.replace('"100003"', '"7"'), "line 4 is not a row of votes"),
        (lambda t: t.replace('"100003"', '"200003"'), "has two rows for face"),
        (lambda t: t.replace("_ANG_", "_XXX_", 1), "not a row of votes"),
        (lambda t: t.replace(",10,0.5", ",10", 1), "fields"),
    ],
)
def test_other_files_are_refused_as_votes(change, words, tmp_path):
    path = votes_file(tmp_path / "votes.csv", FIT.scores.ids[:12], [5] * 12, [5] * 12)
    path.write_text(change(path.read_text()))
    with pytest.raises(UnfitError, match=words):
        read_votes(path)
