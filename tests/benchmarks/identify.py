"""How well the posterior finds the samples that are known to be degraded, before and after adaptation.

    python tests/benchmarks/identify.py results/cells/digits/adaptive/seed? --split test

Each run folder holds warmup.pt and adapt.pt of one seed, as `mgap compare STORE --methods adaptive` leaves
them. A sample that is degraded in either modality counts as imbalanced. The other detectors are |gap| itself
and the fused head's cross-entropy. Prints one Markdown table with mean and standard deviation over the
folders; nothing is written into them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from mgap_cli.analysis.identification import Identification, identify
from mgap_cli.gap.mixture import analyse
from mgap_cli.training.trained_model import open_trained

STAGES = (("warm-up", "warmup.pt"), ("adaptation", "adapt.pt"))


def identified_by(checkpoint: Path, store: Path | None, split: str, column: str) -> Identification:
    """Return how well the checkpoint's gaps of a split identify the samples that the column marks."""
    model = open_trained(checkpoint, torch.device("cpu"), store)
    fit = analyse(model.scores(split), model.config.gap)
    identification = identify(fit, column, np.ones(len(fit.scores), dtype=bool), model.config.analysis)
    assert identification is not None, f"{column} says the same of every sample"
    return identification


def spread(values: list[float], digits: int = 1) -> str:
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, one per seed")
    parser.add_argument("--store", type=Path, help="if it is not where the checkpoints say")
    parser.add_argument("--split", default="test")
    parser.add_argument("--truth", default="degraded", help="column of clips.csv")
    options = parser.parse_args()

    rows = []
    for stage, file in STAGES:
        results = [
            identified_by(run / file, options.store, options.split, options.truth) for run in options.runs
        ]
        sizes = f"n = {results[0].n}, {results[0].imbalanced} degraded"
        for detectors in zip(*(f.detectors for f in results), strict=True):
            auc = spread([d.roc_auc for d in detectors], 3)
            precision = spread([d.average_precision for d in detectors], 3)
            name = detectors[0].name.replace("|", r"\|")
            rows.append(f"| {stage} | {name} | {auc} | {precision} |")
        leads = spread([100 * f.right / max(f.named, 1) for f in results])
        rows.append(f"| {stage} | the intact modality leads | {leads} % of the degraded | |")
    title = f"after ({len(options.runs)} seeds; {options.split}, {sizes})"
    print(f"| {title} | detector | ROC-AUC | average precision |")
    print("|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
