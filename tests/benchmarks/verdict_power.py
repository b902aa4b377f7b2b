"""How often `mgap analyze-gap` gives each verdict for known populations: its error rates and power.

    python tests/benchmarks/verdict_power.py

Draws samples of |gap| from single populations of several shapes and from two populations mixed 9 : 1, asks
for the verdict of each sample, and prints a Markdown table with one row per population and sample size: the
shares of the verdicts in percent. Of a single population, "no valley" and "several populations" are errors,
except that "no valley" is right where the tail is heavy.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable

import numpy as np

from mgap_cli.config import AnalysisConfig, GapConfig
from mgap_cli.gap.bimodality import decide
from mgap_cli.stats.rounding import grid_step, spread_over_step

SAID = ("one population", "skewed or mixed", "no valley", "several populations", "undecided")
Draw = Callable[[np.random.Generator, int], np.ndarray]


def mixed(apart: float) -> Draw:
    """Draw nine parts N(0.2, 0.08), and one part with the same sd whose mean is `apart` sd higher."""
    return lambda g, n: g.normal(np.where(g.random(n) < 0.9, 0.2, 0.2 + apart * 0.08), 0.08)


POPULATIONS: dict[str, Draw] = {
    "folded normal, sd 0.15": lambda g, n: g.normal(0, 0.15, n),
    "Beta(2, 6)": lambda g, n: g.beta(2, 6, n),
    "exponential, mean 0.1": lambda g, n: g.exponential(0.1, n),
    "difference of Beta(8, 2) and Beta(3, 2)": lambda g, n: g.beta(8, 2, n) - g.beta(3, 2, n),
    "that difference, two decimals": lambda g, n: g.beta(8, 2, n).round(2) - g.beta(3, 2, n).round(2),
    "heavy tail: Beta(0.5, 5)": lambda g, n: g.beta(0.5, 5, n),
    "9 : 1, 2 sd apart": mixed(2),
    "9 : 1, 3 sd apart": mixed(3),
    "9 : 1, 4 sd apart": mixed(4),
    "9 : 1, 6 sd apart": mixed(6),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 1000, 5000])
    parser.add_argument("--samples", type=int, default=20, help="of each population and size")
    parser.add_argument("--only", default="", help="populations whose name contains this")
    parser.add_argument("--resamples", type=int, default=99, help="of each bootstrap")
    options = parser.parse_args()
    config, floor = AnalysisConfig(resamples=options.resamples), GapConfig().sd_floor
    print("| population | n |", *(f" {name} % |" for name in SAID), sep="")
    print("|---|---|", *("---|" for _ in SAID), sep="")
    chosen = {name: draw for name, draw in POPULATIONS.items() if options.only in name}
    for name, draw in chosen.items():
        for n in options.sizes:
            said: Counter[str] = Counter()
            for seed in range(options.samples):
                generator = np.random.default_rng([seed, n])
                gap = np.clip(draw(generator, n), -1, 1)
                step = grid_step(gap)
                values = np.abs(gap if step is None else spread_over_step(gap, step))
                said[decide(values, "absolute", floor, config, generator)[0]] += 1
            shares = (f" {100 * said[verdict] / options.samples:.0f} |" for verdict in SAID)
            print(f"| {name} | {n:,} |", *shares, sep="", flush=True)


if __name__ == "__main__":
    main()
