"""How often the diagnosis of the cause is right, on data whose cause is known.

    python tests/benchmarks/causes.py runs/causes --seeds 1 2 3 4 5 6 7 8 9 10

For each variant of the embedded data and each seed (of the data and of the training): prepares a store,
trains joint-heads for 12 epochs, and diagnoses both modalities from training and validation samples, as
`mgap analyze-gap --held-out` does. What the folder has already is not made again. Prints Markdown tables: how
often each modality got each diagnosis, what cross-fitted scores alone would say, and the figures. The
variants and the thresholds in `analysis/causes.py` were chosen on seed 0.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from mgap_cli.analysis.causes import ModalityCause, diagnose
from mgap_cli.training.trained_model import open_trained

VARIANTS = ("late", "memorised", "uninformative")
CAUSES = (*VARIANTS, "balanced")
EPOCHS = 12
CONFIDENCE = 0.95


def mgap(*words: object) -> None:
    """Run mgap; a failure ends this program."""
    subprocess.run([sys.executable, "-m", "mgap_cli", *map(str, words), "--quiet"], check=True)


def trained(folder: Path, variant: str, seed: int) -> Path:
    """Return the checkpoint of a variant and a seed, made if it is not there."""
    store, run = folder / "store", folder / "run"
    if not (run / "train.pt").exists():
        mgap("prepare", "digits", "--variant", variant, "--seed", seed, "-o", store)
        words = ("--seed", seed, "--select", "last", "--set", f"train.epochs={EPOCHS}")
        mgap("train", store, "--method", "joint-heads", *words, "-o", run)
    return run / "train.pt"


def diagnosed(checkpoint: Path) -> tuple[list[ModalityCause], list[ModalityCause]]:
    """Return the diagnosis, and the one that cross-fitted scores alone give."""
    model = open_trained(checkpoint, torch.device("cpu"))
    train, cross, validation = model.scores("train"), model.scores("train", "held-out"), model.scores("val")
    return diagnose(train, cross, validation, CONFIDENCE), diagnose(train, cross, None, CONFIDENCE)


def confusion(title: str, outcomes: dict[str, Counter[str]]) -> None:
    """Print how often each variant got each diagnosis."""
    print(f"\n| {title} | {' | '.join(CAUSES)} |\n|---|{'---|' * len(CAUSES)}")
    for variant, counts in outcomes.items():
        print(f"| `{variant}` | {' | '.join(str(counts[cause]) for cause in CAUSES)} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder for stores and runs, about 20 MB per seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(1, 11)))
    options = parser.parse_args()

    visual, audio, alone = ({v: Counter[str]() for v in VARIANTS} for _ in range(3))
    figures: dict[str, list[tuple[float, float, float]]] = {v: [] for v in VARIANTS}
    for seed in options.seeds:
        for variant in VARIANTS:
            checkpoint = trained(options.folder / f"{variant}-{seed}", variant, seed)
            (sound, picture), (_, by_folds) = diagnosed(checkpoint)
            visual[variant][picture.cause] += 1
            audio[variant][sound.cause] += 1
            alone[variant][by_folds.cause] += 1
            levels = (picture.training, picture.cross_fitted, picture.held_out)
            figures[variant].append(tuple(level.mean for level in levels))
    confusion(f"visual, {len(options.seeds)} seeds", visual)
    confusion("audio, which is intact", audio)
    confusion("visual, by cross-fitted scores alone", alone)
    print("\n| mean p, visual: lowest to highest | train | cross-fitted | validation |\n|---|---|---|---|")
    for variant, rows in figures.items():
        low, high = np.min(rows, axis=0), np.max(rows, axis=0)
        cells = (f"{a:.3f} to {b:.3f}" for a, b in zip(low, high, strict=True))
        print(f"| `{variant}` | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
