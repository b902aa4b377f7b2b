"""Compare the model's gap with that of listeners: are the same clips imbalanced for both?

The human gap of a clip is the share of listeners' votes for the intended emotion when they had the voice
alone, minus the share when they had the face alone (ours; the votes are CREMA-D's).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from mgap_cli.analysis.listener_votes import Votes
from mgap_cli.config import AnalysisConfig, GapConfig
from mgap_cli.errors import UnfitError
from mgap_cli.gap.mixture import IMBALANCED, GapFit, fit_mixture
from mgap_cli.stats.arrays import BoolArray, FloatArray, IntArray
from mgap_cli.stats.intervals import Interval

LEAST = 10  # smallest number of common clips for a comparison


@dataclass(frozen=True)
class Correlation:
    """A coefficient over n clips and its interval; None if one side is constant."""

    name: str
    value: float | None
    interval: Interval | None


@dataclass(frozen=True, eq=False)
class HumanComparison:
    """n clips that both the model and listeners have scored.

    index: (n,) their positions in the model's scores. gap: (n,) the human gap. imbalanced: (n,) whether a
    clip is imbalanced in the same kind of mixture over the human gaps. both, only_human, only_model, neither:
    numbers of clips that are imbalanced for these. kappa: Cohen's kappa of the two sets, with a bootstrap
    interval; None if both are empty.
    """

    modalities: tuple[str, str]
    unmatched: list[str]
    index: IntArray
    gap: FloatArray
    imbalanced: BoolArray
    pearson: Correlation
    spearman: Correlation
    both: int
    only_human: int
    only_model: int
    neither: int
    kappa: float | None
    kappa_interval: Interval | None
    accuracy: tuple[float, float, float]  # listeners' mean share of right votes: voice, face, both
    confidence: float

    @property
    def n(self) -> int:
        return len(self.gap)

    @property
    def agreement(self) -> float:
        """Return the share of clips that both call imbalanced or both call balanced."""
        return (self.both + self.neither) / self.n

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the per-clip arrays, as plain values."""
        voice, face, together = self.accuracy
        return {
            "n": self.n,
            "without_votes": len(self.unmatched),
            "modalities": list(self.modalities),
            "correlations": {
                c.name: {"value": c.value, "interval": c.interval.to_list() if c.interval else None}
                for c in (self.pearson, self.spearman)
            },
            "imbalanced": {
                "both": self.both,
                "only_human": self.only_human,
                "only_model": self.only_model,
                "neither": self.neither,
            },
            "agreement": self.agreement,
            "kappa": self.kappa,
            "kappa_interval": self.kappa_interval.to_list() if self.kappa_interval else None,
            "human_balanced_share": float(1 - self.imbalanced.mean()),
            "listeners_votes_for_intended": {"voice": voice, "face": face, "both": together},
            "confidence": self.confidence,
        }


def compare_with_people(
    fit: GapFit, votes: Votes, gap_config: GapConfig, config: AnalysisConfig, chosen: BoolArray | None = None
) -> HumanComparison:
    """Compare the model's gaps with the votes, on the (N,) `chosen` clips that have both.

    A clip is matched by its id without folder and file type. Raises UnfitError for too few common clips.
    """
    ids = [PurePosixPath(name).name.split(".")[0] for name in fit.scores.ids]
    wanted = range(len(ids)) if chosen is None else np.flatnonzero(chosen).tolist()

    def share(counts: dict[str, tuple[int, int]], clip: str) -> float | None:
        right, total = counts.get(clip, (0, 0))
        return right / total if total else None

    shares = {i: (share(votes.voice, ids[i]), share(votes.face, ids[i])) for i in wanted}
    matched = [i for i in wanted if None not in shares[i]]
    if len(matched) < LEAST:
        raise UnfitError(
            f"{len(matched)} of {len(shares)} samples have votes for voice and face; {LEAST} are needed.",
            f"Ids must be CREMA-D's clip names, such as 1001_DFA_ANG_XX; one here is {fit.scores.ids[0]!r}.",
        )
    index = np.array(matched, dtype=np.int64)
    voice, face = np.array([shares[i] for i in matched], dtype=np.float64).T
    gap = np.round(voice - face, 9)  # rounded, so that 0.3 - 0.1 and 0.2 - 0 have the same rank
    mixture, _ = fit_mixture(gap, gap_config)
    human = mixture.posterior(gap) >= IMBALANCED
    a, b = human, fit.imbalanced[index]
    cells = [int(np.sum(cell)) for cell in (a & b, a & ~b, ~a & b, ~a & ~b)]
    kappa, kappa_interval = _kappa(cells, config)
    together = [s for s in (share(votes.both, ids[i]) for i in matched) if s is not None]
    model = fit.scores.gap[index]
    first, second = fit.scores.modalities
    return HumanComparison(
        modalities=(first, second),
        unmatched=[fit.scores.ids[i] for i in wanted if None in shares[i]],
        index=index,
        gap=gap,
        imbalanced=human,
        pearson=_correlation("pearson", gap, model, config.confidence),
        spearman=_correlation("spearman", gap, model, config.confidence),
        both=cells[0],
        only_human=cells[1],
        only_model=cells[2],
        neither=cells[3],
        kappa=kappa,
        kappa_interval=kappa_interval,
        accuracy=(float(voice.mean()), float(face.mean()), float(np.mean(together)) if together else 0.0),
        confidence=config.confidence,
    )


def _correlation(name: str, a: FloatArray, b: FloatArray, confidence: float) -> Correlation:
    """Return Pearson's or Spearman's correlation with its interval by Fisher's (1915) z.

    The standard error of z is 1 / sqrt(n - 3) for Pearson's. For ranks it is sqrt((1 + r^2 / 2) / (n - 3))
    (Bonett and Wright, Psychometrika 65, 2000).
    """
    from scipy.stats import norm, pearsonr, spearmanr

    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return Correlation(name, None, None)
    r = float((pearsonr if name == "pearson" else spearmanr)(a, b).statistic)
    spread = 1 + r**2 / 2 if name == "spearman" else 1.0
    reach = float(norm.ppf(0.5 + confidence / 2)) * np.sqrt(spread / (len(a) - 3))
    z = np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))
    return Correlation(name, r, Interval(float(np.tanh(z - reach)), float(np.tanh(z + reach))))


def _kappa(cells: list[int], config: AnalysisConfig) -> tuple[float | None, Interval | None]:
    """Return Cohen's (1960) kappa of a 2 x 2 table, agreement beyond chance, with a bootstrap interval."""
    n = sum(cells)

    def kappa(counts: FloatArray) -> FloatArray:
        both, first, second, neither = np.moveaxis(counts / n, -1, 0)
        chance = (both + first) * (both + second) + (neither + first) * (neither + second)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((both + neither - chance) / (1 - chance))

    value = float(kappa(np.array(cells, dtype=np.float64)))
    if not np.isfinite(value):
        return None, None
    draws = np.random.default_rng(config.seed).multinomial(n, np.array(cells) / n, size=config.resamples)
    resampled = kappa(draws.astype(np.float64))
    tail = 50 * (1 - config.confidence)
    low, high = np.percentile(resampled[np.isfinite(resampled)], [tail, 100 - tail], method="weibull")
    return value, Interval(float(low), float(high))
