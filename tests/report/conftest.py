"""Fits with hostile names, which tables and plots must show correctly."""

from __future__ import annotations

import numpy as np
import pytest

from mgap_cli.config import GapConfig
from mgap_cli.gap.mixture import GapFit, analyse
from mgap_cli.gap.scores import Scores

CLASSES = ("happy", "[red]x[/red]", "a label that is far too long for any column", "two\nlines", "empty")


def make_fit(gap_kind: str = "absolute", components: int = 2, n: int = 300) -> GapFit:
    generator = np.random.default_rng(0)
    one_sided = generator.random(n) < 0.4
    p_audio = generator.beta(8, 2, n)
    p_visual = np.where(
        one_sided, generator.beta(1, 8, n), np.clip(p_audio + generator.normal(0, 0.08, n), 0, 1)
    )
    swap = one_sided & (generator.random(n) < 0.2)
    p_audio, p_visual = np.where(swap, p_visual, p_audio), np.where(swap, p_audio, p_visual)
    labels = generator.integers(0, len(CLASSES) - 1, n)  # the last class has no samples
    predicted = {head: generator.integers(0, len(CLASSES), n) for head in ("fused", "audio", "visual")}
    ids = [f"[bold]/a/long/folder/of/clips/1001_DFA_ANG_{i:05}" for i in range(n)]
    scores = Scores(ids, CLASSES, labels, {"audio": p_audio, "visual": p_visual}, predicted)
    return analyse(scores, GapConfig(kind=gap_kind, components=components))  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def fit() -> GapFit:
    return make_fit()


@pytest.fixture(scope="session")
def signed_fit() -> GapFit:
    return make_fit("signed", 3)


@pytest.fixture(scope="session")
def constant_fit() -> GapFit:
    """Equal gaps: there is no mixture, no BIC, no crossing and no prediction."""
    half = np.full(20, 0.5)
    scores = Scores(
        [str(i) for i in range(20)], ("only",), np.zeros(20, dtype=np.int64), {"audio": half, "visual": half}
    )
    return analyse(scores, GapConfig())
