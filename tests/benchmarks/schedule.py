"""How much time `mgap compare` needs beyond that of its cells.

    python tests/benchmarks/schedule.py [--cells 200] [--jobs 2]

Makes a small store of `digits`, and compares one toy method, which computes for one second in its
only epoch, with so many seeds. A cell's time is from the first line of its process (it opens its log) to its
record. The overhead is what the whole command took beyond the cells, as a ratio of one run:

    jobs * seconds of the command / sum of the cells' seconds - 1

It has the start of the program, the start of every process, and the table at the end.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOY = """
import time

from mgap_cli.methods.base import Method, cross_entropy


class Toy(Method):
    name = "toy"

    def on_epoch_start(self, context):
        start = time.process_time()
        while time.process_time() - start < 1:
            pass
        return []

    def loss(self, outputs, batch):
        return cross_entropy(outputs.fused, batch.labels)
"""
SMALL = ("data.frame_size=8", "data.sample_rate=4000", "data.seconds=0.3", "data.n_fft=64", "data.hop=40")
TINY = ("train.batch_size=256", "model.width=4", "augment.image_size=8", "evaluate.bootstrap=50")


def mgap(*words: object) -> float:
    """Run mgap and return the seconds that it took."""
    start = time.monotonic()
    subprocess.run([sys.executable, "-m", "mgap_cli", *map(str, words), "-q"], check=True, stdout=sys.stderr)
    return time.monotonic() - start


def cell_seconds(record: Path) -> float:
    """Return the time from the opening of a cell's log, which stays empty, to its record."""
    log = record.with_suffix(".log")
    if log.stat().st_size:
        raise SystemExit(f"{log} has text: its time is not that of the cell's start")
    return record.stat().st_mtime - log.stat().st_mtime


def main() -> None:
    """Print the overhead."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store, method, results = folder / "store", folder / "toy.py", folder / "results"
        method.write_text(TOY)
        settings = [word for pair in TINY for word in ("--set", pair)]
        mgap("prepare", "digits", "-o", store, *(word for pair in SMALL for word in ("--set", pair)))
        plan = ["--methods", f"{method}:Toy", "--seeds", options.cells, "--epochs", 1, "-o", results]
        whole = mgap("compare", store, *plan, "--jobs", options.jobs, *settings)
        cells = [cell_seconds(record) for record in results.glob("cells/*/*/seed*.json")]
    overhead = options.jobs * whole / sum(cells) - 1
    print(
        f"{len(cells)} cells of {sum(cells) / len(cells):.2f} s on average, {options.jobs} at a time: "
        f"{whole:.1f} s in all, overhead {overhead:.1%}"
    )


if __name__ == "__main__":
    main()
