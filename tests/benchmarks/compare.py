"""Compare methods on a store: several seeds each, the same number of epochs each, real commands.

    python tests/benchmarks/compare.py STORE RUNS --seeds 5

Each method trains by its own recipe (`mgap train STORE --method NAME`) and gets the same budget and
schedule, train.epochs. NAME may be path/to/file.py:Class. A method's own settings follow its name, in one
word of the shell:

    python tests/benchmarks/compare.py STORE RUNS --methods joint "unimodal modality=audio"

A run that is there already is not trained again, so the script can be stopped and started. Prints a Markdown
table of test accuracy (mean and standard deviation over seeds), and validation accuracy beside it, because
defaults are chosen by it. Where the store records `degraded`, it also prints how well the posterior after
each warm-up finds these samples.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from mgap_cli.data.store import open_store
from mgap_cli.methods import load_method

HEADS = ("fused", "audio", "visual")


def mgap(*words: str) -> dict[str, Any]:
    """Run a command of ours and return its JSON document."""
    line = [sys.executable, "-m", "mgap_cli", *words, "--json", "--quiet"]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(line)}\n{done.stderr}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def train(store: Path, runs: Path, method: str, seed: int, settings: list[str]) -> Path:
    """Train one method by its recipe with one seed; return its last checkpoint.

    method: its name, and its own settings after it, as in "unimodal modality=audio".
    """
    name, *own = method.split()
    section = load_method(name).name
    run = runs / "-".join([section, *own, f"seed{seed}"])
    words = [word for value in own for word in ("--set", f"{section}.{value}")]
    line = ["train", str(store), "--method", name, "-o", str(run), "--seed", str(seed), *settings, *words]
    return Path(mgap(*line)["path"])


def accuracies(checkpoint: Path, split: str) -> dict[str, float]:
    """Return accuracy by head, in per cent."""
    (found,) = mgap("evaluate", str(checkpoint), "--split", split)["evaluations"]
    return {head: 100 * metrics["accuracy"] for head, metrics in found["heads"].items()}


def identification(store: Path, warm: Path) -> dict[str, float]:
    """Return ROC-AUC of posterior and raw gap for `degraded`; {} where that is not recorded."""
    from sklearn.metrics import roc_auc_score

    columns = open_store(store).columns
    if "degraded" not in columns:
        return {}
    truth = {i: kind != "none" for i, kind in zip(columns["id"], columns["degraded"], strict=True)}
    found = {}
    for split in ("train", "test"):
        table = warm.parent / f"gap-{split}.csv"
        mgap("analyze-gap", str(warm), "--split", split, "--csv", str(table))
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
        actual = [truth[row["id"]] for row in rows]
        found[f"{split} posterior"] = float(roc_auc_score(actual, [float(row["posterior"]) for row in rows]))
        found[f"{split} |gap|"] = float(roc_auc_score(actual, [abs(float(row["gap"])) for row in rows]))
    return found


def spread(values: list[float], digits: int = 1) -> str:
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--methods", nargs="+", default=["joint", "ogm-ge", "joint-heads", "adaptive"], metavar="NAME"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as for mgap")
    parser.add_argument("--config", type=Path, help="as for mgap")
    options = parser.parse_args()
    settings = [word for value in options.set for word in ("--set", value)]
    if options.config:
        settings += ["--config", str(options.config)]

    def one(job: tuple[str, int]) -> tuple[str, int, Path]:
        method, seed = job
        checkpoint = train(options.store, options.runs, method, seed, settings)
        print(f"done: {method}, seed {seed}", file=sys.stderr, flush=True)
        return method, seed, checkpoint

    jobs = [(method, seed) for seed in range(options.seeds) for method in options.methods]
    with ThreadPoolExecutor(options.jobs) as pool:
        trained = list(pool.map(one, jobs))

    print(f"| method ({options.seeds} seeds) | fused % | audio % | visual % | fused, val % |")
    print("|---|---|---|---|---|")
    for method in options.methods:
        checkpoints = [path for name, _, path in trained if name == method]
        test = [accuracies(path, "test") for path in checkpoints]
        val = [accuracies(path, "val") for path in checkpoints]
        cells = [spread([row[head] for row in test]) if head in test[0] else "-" for head in HEADS]
        main_head = next(head for head in HEADS if head in val[0])
        print(f"| {method} | {' | '.join(cells)} | {spread([row[main_head] for row in val])} |")
    for method in options.methods:
        warm = [path.with_name("warmup.pt") for name, _, path in trained if name == method]
        figures = [identification(options.store, path) for path in warm if path.exists()]
        for key in figures[0] if figures else ():
            print(f"\nROC-AUC for degraded samples, {method}, {key}: {spread([f[key] for f in figures], 3)}")


if __name__ == "__main__":
    main()
