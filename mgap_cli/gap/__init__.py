"""The modality gap: per-sample scores, the mixture over their gaps, and its verdict.

In a program of your own, with true-class probabilities (N,) or probabilities (N, C) of each modality as
arrays or tensors, and labels (N,):

    from mgap_cli.gap import examine, measure
    fit = measure(labels, audio=p_audio, visual=p_visual)
    print(fit.balanced_share, fit.posterior, examine(fit).sentence)

`GapMeter` collects the batches of a loop. Names are imported when they are first used, so importing this
package alone loads nothing else. None of them loads torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mgap_cli.gap.arrays import measure as measure
    from mgap_cli.gap.bimodality import Bimodality as Bimodality
    from mgap_cli.gap.bimodality import examine as examine
    from mgap_cli.gap.meter import GapMeter as GapMeter
    from mgap_cli.gap.mixture import GapFit as GapFit
    from mgap_cli.gap.mixture import analyse as analyse
    from mgap_cli.gap.score_files import read_scores as read_scores
    from mgap_cli.gap.scores import Scores as Scores

_HOMES = {
    "Bimodality": "bimodality",
    "GapFit": "mixture",
    "GapMeter": "meter",
    "Scores": "scores",
    "analyse": "mixture",
    "examine": "bimodality",
    "measure": "arrays",
    "read_scores": "score_files",
}

__all__ = ["Bimodality", "GapFit", "GapMeter", "Scores", "analyse", "examine", "measure", "read_scores"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
