"""Compare methods on a store: several seeds each, the same number of epochs each, real commands.

    python tests/benchmarks/compare.py STORE RUNS --seeds 5

Every method gets the same budget and schedule, train.epochs: the baselines in one go, `adaptive`
warms up for the first share of it and adapts for the rest. A run that is there already is not
trained again, so the script can be stopped and started. Prints a Markdown table of test accuracy (mean
and standard deviation over seeds), validation accuracy beside it, since that is what defaults are chosen
by, and where the store records `degraded`, how well the posterior after warm-up finds it.
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

from mgap_cli.config import Config, preset, resolve
from mgap_cli.data.store import open_store

HEADS = ("fused", "audio", "visual")
ADAPTIVE = "adaptive"


def mgap(*words: str) -> dict[str, Any]:
    """Run a command of ours and return its JSON document."""
    line = [sys.executable, "-m", "mgap_cli", *words, "--json", "--quiet"]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(line)}\n{done.stderr}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def train(store: Path, runs: Path, method: str, seed: int, config: Config, settings: list[str]) -> Path:
    """Train one method with one seed; return its checkpoint."""
    run = runs / f"{method}-seed{seed}"
    common = ["-o", str(run), "--seed", str(seed), *settings]
    if method.startswith(ADAPTIVE):
        warm = mgap("warmup", str(store), *common)["path"]
        return Path(mgap("adapt", warm)["path"])
    line = ["warmup", str(store), *common, "--method", method, "--epochs", str(config.train.epochs)]
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
    config = resolve(preset(open_store(options.store).name), file=options.config, sets=options.set)

    def one(job: tuple[str, int]) -> tuple[str, int, Path]:
        method, seed = job
        checkpoint = train(options.store, options.runs, method, seed, config, settings)
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
    if ADAPTIVE in options.methods:
        warm = [path.with_name("warmup.pt") for name, _, path in trained if name == ADAPTIVE]
        figures = [identification(options.store, path) for path in warm]
        for key in figures[0]:
            print(f"\nROC-AUC for degraded samples, {key}: {spread([f[key] for f in figures], 3)}")


if __name__ == "__main__":
    main()
