"""How long training takes with each number of threads, on an idle machine and beside busy processes.

    python tests/benchmarks/threads.py [--rounds 3]

It prints a Markdown table of medians. The machine must have nothing else to do: the script says how many
cores are idle before it starts. The busy processes are twice as many as the cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mgap_cli.cores import free_cores, usable_cores

EPOCHS = 3


def mgap(*words: object) -> str:
    """Run mgap without OMP_NUM_THREADS and return what it prints."""
    env = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    line = [sys.executable, "-m", "mgap_cli", *map(str, words), "-q"]
    return subprocess.run(line, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Run so many processes that compute without end."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    time.sleep(1)
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def seconds(store: str, folder: Path, threads: str) -> tuple[float, int]:
    """Return the seconds of the epochs of a warm-up, and the number of threads that it took."""
    mgap("warmup", store, "-o", folder, "--epochs", EPOCHS, "--threads", threads)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    spent = sum(json.loads(line)["seconds"] for line in lines)
    return spent, json.loads((folder / "env.json").read_text())["threads"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    cores = usable_cores()
    print(f"{cores} usable cores, {free_cores():.1f} of them idle before the start")
    choices = [*map(str, range(1, cores + 1)), "auto"]
    table: dict[str, dict[str, list[tuple[float, int]]]] = {choice: {} for choice in choices}
    with tempfile.TemporaryDirectory() as name:
        store = mgap("prepare", "digits", "-o", Path(name) / "store")
        for situation, burners in (("idle", 0), ("busy", 2 * cores)):
            for number in range(rounds):
                for choice in choices:
                    folder = Path(name) / f"{situation}-{number}-{choice}"
                    with busy(burners):
                        table[choice].setdefault(situation, []).append(seconds(store, folder, choice))
    print(f"\n| {EPOCHS} epochs of digits, s | idle | beside {2 * cores} busy processes |\n|---|---|---|")
    for choice, times in table.items():
        cells = []
        for measured in times.values():
            taken = sorted({threads for _, threads in measured})
            note = f" ({', '.join(map(str, taken))} threads)" if choice == "auto" else ""
            cells.append(f"{statistics.median(s for s, _ in measured):.1f}{note}")
        print(f"| {choice} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
