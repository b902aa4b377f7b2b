"""How long `mgap analyze-gap` takes for a million rows of scores, and how much memory.

    python tests/benchmarks/gap_scale.py

Two populations of gaps are drawn and written as CSV, NPZ and Parquet. Each file is analysed by the command
line, a process of its own, timed from its start to its end; beside it a process that only reads the file into
arrays, without a library for tables: Python's csv module, numpy.load, or pyarrow. Both take turns, after one
round that does not count. Prints a Markdown table: medians, and the range of the ratios.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

PLAIN = {
    ".csv": """
import csv, sys
import numpy as np
with open(sys.argv[1], newline="") as file:
    rows = csv.reader(file)
    next(rows)
    ids, labels, *scores = zip(*rows)
scores = [np.array(column, dtype=np.float64) for column in scores]
""",
    ".npz": """
import sys
import numpy as np
with np.load(sys.argv[1]) as file:
    arrays = {name: file[name] for name in file.files}
""",
    ".parquet": """
import sys
import pyarrow.parquet
table = pyarrow.parquet.read_table(sys.argv[1])
columns = {name: table[name].to_numpy() for name in table.column_names}
""",
}
CLASSES = 10
MB = 1e6


def write(folder: Path, rows: int) -> list[Path]:
    """Write the same scores in each format."""
    import pyarrow
    from pyarrow import parquet

    generator = np.random.default_rng(0)
    one_sided = generator.random(rows) < 0.4
    audio = generator.beta(8, 2, rows)
    near = np.clip(audio + generator.normal(0, 0.08, rows), 0, 1)
    visual = np.where(one_sided, generator.beta(1.2, 6, rows), near)
    table = {
        "id": np.array([f"clip-{i:07}" for i in range(rows)]),
        "label": np.array([f"class {c}" for c in generator.integers(0, CLASSES, rows)]),
        "p_audio": audio,
        "p_visual": visual,
    }
    paths = [folder / f"scores{suffix}" for suffix in PLAIN]
    with paths[0].open("w") as file:
        file.write(",".join(table) + "\n")
        file.writelines(f"{i},{c},{a:.6f},{v:.6f}\n" for i, c, a, v in zip(*table.values(), strict=True))
    np.savez(paths[1], **table)
    parquet.write_table(pyarrow.table(table), paths[2])
    return paths


def spent(line: list[str]) -> tuple[float, float, float]:
    """Run a command; return its seconds, those of processor time, and its peak resident memory in bytes."""
    begin = time.perf_counter()
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - begin
    if process.returncode:
        sys.exit(f"{' '.join(line)}: exit code {process.returncode}")
    return (
        seconds,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    print(
        f"| {options.rows:,} rows | MB | only reading it, s | analyze-gap, s | of a processor, s "
        "| ratio (range) | peak, MB |"
    )
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for path in write(Path(folder), options.rows):
            plain = [sys.executable, "-c", PLAIN[path.suffix], str(path)]
            ours = [sys.executable, "-m", "mgap_cli", "analyze-gap", str(path), "--quiet"]
            rounds = []
            for _ in range(options.rounds + 1):
                rounds.append((spent(plain), spent(ours)))
                (a, *_), (b, _, size) = rounds[-1]
                print(f"{path.suffix}: {a:.2f} s, {b:.2f} s, {size / MB:.0f} MB", file=sys.stderr, flush=True)
            del rounds[0]
            read, analysed = (median(pair[i][0] for pair in rounds) for i in (0, 1))
            busy = median(ours for _, (_, ours, _) in rounds)
            ratios = sorted(b / a for (a, *_), (b, *_) in rounds)
            spread = f"{median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})"
            peak = max(size for _, (*_, size) in rounds) / MB
            weight = path.stat().st_size / MB
            cells = (path.suffix, f"{weight:.0f}", f"{read:.2f}", f"{analysed:.2f}", f"{busy:.2f}", spread)
            print(f"| {' | '.join(cells)} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
