"""gap.csv and gap.json, read again, give the fit from which they were written."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mgap_cli.config import AnalysisConfig, GapConfig
from mgap_cli.gap.bimodality import examine
from mgap_cli.gap.mixture import analyse
from mgap_cli.gap.saved import saved_fit
from mgap_cli.gap.scores import Scores
from mgap_cli.report.documents import gap_csv, gap_summary


@pytest.mark.parametrize(("gap_kind", "components"), [("absolute", 2), ("signed", 3)])
def test_round_trip(tmp_path, gap_kind, components):
    g = np.random.default_rng(0)
    p, q = g.beta(8, 2, 200), np.where(g.random(200) < 0.4, g.beta(1, 8, 200), g.beta(8, 2, 200))
    ids = [f"c,{i}" for i in range(200)]
    scores = Scores(ids, ("x", 'y "z"'), np.arange(200) % 2, {"audio": p, "visual": q})
    config = GapConfig(kind=gap_kind, components=components, n_init=1)
    fit = analyse(scores, config)
    tested = examine(fit, AnalysisConfig(resamples=19), config)
    fit = fit.__class__(**{**vars(fit), "bimodality": tested})
    path = tmp_path / "gap.csv"
    path.write_text(gap_csv(fit))
    document = json.loads(json.dumps(gap_summary("warmup.pt", "train", {"train": fit})))["fits"]["train"]
    back = saved_fit(path, document, {"group": {id_: id_[-1] for id_ in ids}})

    row = {id_: i for i, id_ in enumerate(back.scores.ids)}
    order = [row[id_] for id_ in ids]
    np.testing.assert_allclose(back.scores.gap[order], scores.gap)
    np.testing.assert_allclose(back.posterior[order], fit.posterior)
    assert (back.component[order] == fit.component).all()
    assert [back.role(k) for k in range(components)] == [fit.role(k) for k in range(components)]
    assert back.balanced_share == fit.balanced_share
    assert (back.bic, back.icl, back.crossing) == (fit.bic, fit.icl, fit.crossing)
    assert back.bimodality == tested
    assert back.scores.columns["group"][0] == back.scores.ids[0][-1]
