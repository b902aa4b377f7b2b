"""Detectors of known imbalance: areas as scikit-learn's, their intervals, and columns of truth."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from mgap_cli.analysis.identification import identify
from mgap_cli.config import AnalysisConfig, GapConfig
from mgap_cli.errors import UsageError
from mgap_cli.gap.mixture import GapFit, analyse
from mgap_cli.gap.scores import Scores

N = 300
CONFIG = AnalysisConfig(resamples=99)
ALL = np.ones(N, dtype=bool)


def made(**columns: list[str]) -> GapFit:
    """Scores in which visual or audio is degraded in a third of the samples; rounding makes ties."""
    g = np.random.default_rng(0)
    cause = np.array(["none", "none", "none", "none", "visual", "audio"])[np.arange(N) % 6]
    high, low = g.beta(6, 2, (2, N)), g.beta(2, 4, (2, N))
    audio, visual = (
        np.where(cause == m, low[i], high[i]).round(2) for i, m in enumerate(("audio", "visual"))
    )
    fused = np.clip(np.maximum(audio, visual) - g.random(N) * 0.2, 0, 1)
    fused[:3] = 0.0  # a loss without bound
    known = columns or {"degraded": cause.tolist()}
    ids = [str(i) for i in range(N)]
    scores = Scores(
        ids,
        ("only",),
        np.zeros(N, np.int64),
        {"audio": audio, "visual": visual},
        columns=known,
        p_fused=fused,
    )
    return analyse(scores, GapConfig(n_init=1))


FIT = made()
TRUTH = np.array(FIT.scores.columns["degraded"]) != "none"


def test_areas_are_those_of_scikit_learn():
    chosen = np.arange(N) % 5 != 0
    identification = identify(FIT, "degraded", chosen, CONFIG)
    truth = TRUTH[chosen]
    assert FIT.scores.p_fused is not None
    with np.errstate(divide="ignore"):
        loss = np.minimum(-np.log(FIT.scores.p_fused), 1e3)
    scores = {"posterior": FIT.posterior, "|gap|": np.abs(FIT.scores.gap), "fused loss": loss}
    assert [d.name for d in identification.detectors] == list(scores)
    for d, score in zip(identification.detectors, scores.values(), strict=True):
        assert d.roc_auc == pytest.approx(roc_auc_score(truth, score[chosen]))
        assert d.average_precision == pytest.approx(average_precision_score(truth, score[chosen]))
        assert d.roc_auc_interval.low < d.roc_auc < d.roc_auc_interval.high
        assert d.average_precision_interval.low < d.average_precision < d.average_precision_interval.high
    posterior, gap, rival = identification.detectors
    assert posterior.ahead is None and gap.ahead == pytest.approx(0, abs=0.01)
    assert rival.ahead == pytest.approx(rival.roc_auc - posterior.roc_auc)
    assert rival.ahead_interval.low < rival.ahead < rival.ahead_interval.high


def test_counts():
    result = identify(FIT, "degraded", ALL, CONFIG)
    assert (result.n, result.imbalanced, result.named) == (N, N // 3, N // 3)
    assert (result.called, result.correct) == (FIT.imbalanced.sum(), (FIT.imbalanced & TRUTH).sum())
    column, gap = np.array(FIT.scores.columns["degraded"]), FIT.scores.gap
    assert result.right == ((column == "visual") & (gap > 0)).sum() + ((column == "audio") & (gap < 0)).sum()
    document = result.to_dict()
    assert document["of_these_right"] == result.correct
    assert document["detectors"][0]["roc_auc_minus_posterior_interval"] is None


def test_a_column_of_yes_and_no_names_no_modality():
    fit = made(noisy=["Yes" if t else ("no", "", "0")[i % 3] for i, t in enumerate(TRUTH)])
    identification = identify(fit, "noisy", ALL, CONFIG)
    assert (identification.imbalanced, identification.named, identification.right) == (N // 3, 0, 0)
    assert identification.detectors == identify(FIT, "degraded", ALL, CONFIG).detectors


def test_without_a_fused_head_its_loss_is_not_a_detector():
    fit = dataclasses.replace(FIT, scores=dataclasses.replace(FIT.scores, p_fused=None))
    assert [d.name for d in identify(fit, "degraded", ALL, CONFIG).detectors] == ["posterior", "|gap|"]


def test_the_interval_of_an_area_has_the_width_of_theory():
    """Hanley and McNeil (1982) give an approximate standard error."""
    identification = identify(FIT, "degraded", ALL, AnalysisConfig(resamples=999)).detectors[0]
    a, m, n = identification.roc_auc, N // 3, N - N // 3
    q1, q2 = a / (2 - a), 2 * a**2 / (1 + a)
    expected = np.sqrt((a * (1 - a) + (m - 1) * (q1 - a**2) + (n - 1) * (q2 - a**2)) / (m * n))
    width = (identification.roc_auc_interval.high - identification.roc_auc_interval.low) / 3.92
    assert width == pytest.approx(expected, rel=0.35)


def test_a_column_of_truth_that_is_constant_or_missing():
    assert identify(FIT, "degraded", TRUTH, CONFIG) is None
    assert identify(FIT, "degraded", ~TRUTH, CONFIG) is None
    with pytest.raises(UsageError, match="no column 'degradedd'") as caught:
        identify(FIT, "degradedd", ALL, CONFIG)
    assert caught.value.hint == "Did you mean 'degraded'?"
