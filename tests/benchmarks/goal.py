"""Compare one method with its rivals on each data set, for the table of docs/results.md.

    python tests/benchmarks/goal.py pooled "RAVDESS=results/ravdess:ravdess-*" "digits=results/digits:digits"

Each data set is NAME=RESULTS:STORES, with the folder of a `mgap compare` and a pattern of its stores' names;
several stores are folds, whose test samples differ. With NAME=RESULTS+RESULTS:STORES the cells of two folders
are put together. Two methods are compared on the stores and seeds that both have finished; the best rival is
the one to which the difference is least.

Accuracy is that over the samples of all folds, as a mean over seeds. With one seed, p is McNemar's test over
the samples of all folds. With several seeds, which share their samples, p is the sign flip test over the
samples: the difference at a sample is that of the shares of seeds that are right. McNemar's test is the case
of one seed. Both say something about these networks and nothing about other seeds. Holm's correction is over
the data sets. `--also` shows other methods, which are no rivals.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from mgap_cli.comparison.cell_result import CellResult, read_result
from mgap_cli.comparison.plan import Cell
from mgap_cli.stats.multiple_testing import holm
from mgap_cli.stats.paired import mcnemar, sign_flip

METRIC = "fused.accuracy"
RIVALS = {  # by the name that the plan gives them, with their name in the table
    "joint": "joint",
    "joint-heads": "joint-heads",
    "unimodal-modality=audio": "audio alone",
    "unimodal-modality=visual": "visual alone",
    "ensemble": "ensemble",
    "ogm-ge": "ogm-ge",
    "mmpareto": "mmpareto",
}
MARGIN = 0.01  # below the best rival
LEVEL = 0.05

ByMethod = dict[str, dict[tuple[int, str], CellResult]]  # by method, then by seed and store


@dataclass(frozen=True)
class Difference:
    """A method minus a rival, on the `cells` that both have; p_value of a test over the samples."""

    rival: str
    cells: int
    method: float
    other: float
    p_value: float

    @property
    def points(self) -> float:
        return 100 * (self.method - self.other)


def finished(argument: str) -> tuple[str, ByMethod]:
    """Return the name of a data set and its finished cells."""
    name, _, source = argument.partition("=")
    folder, _, pattern = source.rpartition(":")
    by_method: ByMethod = {}
    for results in map(Path, folder.split("+")):
        for record in sorted(results.glob("cells/*/*/seed*.json")):
            store, method = record.parts[-3:-1]
            seed = int(record.stem.removeprefix("seed"))
            result = read_result(Cell(store, method, seed), results)
            if result is not None and result.state == "done" and fnmatch(store, pattern):
                by_method.setdefault(method, {})[seed, store] = result
    return name, by_method


def right(cells: Mapping[tuple[int, str], CellResult], keys: list[tuple[int, str]]) -> np.ndarray:
    """Return whether each sample of these cells is predicted correctly, (N,)."""
    return np.array(list("".join(cells[key].correct_by(METRIC) for key in keys))) == "1"


def difference(by_method: ByMethod, method: str, rival: str) -> Difference:
    """Compare two methods on the cells that both have."""
    common = sorted(by_method[method].keys() & by_method[rival].keys())
    seeds = sorted({seed for seed, _ in common})
    mine, other = (
        np.array([right(by_method[m], [key for key in common if key[0] == seed]) for seed in seeds])
        for m in (method, rival)
    )
    if len(seeds) == 1:
        p = mcnemar(mine[0], other[0]).p_value
    else:
        by_sample = mine.mean(axis=0) - other.mean(axis=0)
        p = sign_flip(by_sample[by_sample != 0])
    return Difference(rival, len(common), float(mine.mean()), float(other.mean()), p)


def _of(methods: Mapping[str, str], by_method: ByMethod) -> ByMethod:
    """Return the cells of these methods, in their order."""
    return {m: by_method[m] for m in methods if m in by_method}


def accuracy(by_method: ByMethod, method: str) -> str:
    """Return a method's mean accuracy in %, and its cells where it has fewer than the method with most."""
    cells = by_method.get(method, {})
    if not cells:
        return "-"
    seeds = sorted({seed for seed, _ in cells})
    values = [right(cells, [key for key in sorted(cells) if key[0] == seed]).mean() for seed in seeds]
    spread = f" ± {100 * np.std(values, ddof=1):.1f}" if len(seeds) > 1 else ""
    most = max(map(len, by_method.values()))
    fewer = f" ({len(cells)} of {most})" if len(cells) < most else ""
    return f"{100 * np.mean(values):.1f}{spread}{fewer}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("method")
    parser.add_argument("data", nargs="+", help="NAME=RESULTS:STORES")
    parser.add_argument("--reference", default="joint-heads")
    parser.add_argument("--also", nargs="*", default=[], metavar="METHOD", help="shown, but no rival")
    options = parser.parse_args()
    method, reference = options.method, options.reference

    methods = {**RIVALS, **{m: m for m in options.also}, method: method}
    everything = ((name, _of(methods, by_method)) for name, by_method in map(finished, options.data))
    data = {name: by_method for name, by_method in everything if {method, reference} <= by_method.keys()}
    print(f"| data | n | {' | '.join(methods.values())} |\n|---|---:|{'---:|' * len(methods)}")
    for name, by_method in data.items():
        n = max(sum(r.test_samples for (s, _), r in cells.items() if s == 0) for cells in by_method.values())
        print(f"| {name} | {n:,} | {' | '.join(accuracy(by_method, m) for m in methods)} |")

    against = {n: [difference(f, method, m) for m in RIVALS if m in f] for n, f in data.items()}
    to_reference = {n: next(d for d in against[n] if d.rival == reference) for n in data}
    corrected = dict(zip(data, holm([d.p_value for d in to_reference.values()]), strict=True))
    print(f"\n| data | best rival | {method} minus it | within 1 point | minus {reference} | p | p, Holm |")
    print("|---|---|---:|---|---:|---:|---:|")
    for name, rivals in against.items():
        best = min(rivals, key=lambda d: d.points)
        near = "yes" if best.method >= best.other - MARGIN else "no"
        d = to_reference[name]
        most = len(data[name][method])
        partly = f" ({best.cells} of {most})" if best.cells < most else ""
        print(
            f"| {name} | {RIVALS[best.rival]} {100 * best.other:.1f}{partly} | {best.points:+.1f} | {near} | "
            f"{d.points:+.1f} | {d.p_value:.2g} | {corrected[name]:.2g} |"
        )
    reached = sum(corrected[n] < LEVEL and d.points > 0 for n, d in to_reference.items())
    print(f"\nAhead of {reference} with a corrected p below {LEVEL}: {reached} of {len(data)} data sets.")


if __name__ == "__main__":
    main()
