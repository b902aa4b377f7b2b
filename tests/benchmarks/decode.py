"""How fast `mgap prepare` is against decord alone, and whether its memory grows with the clips.

    python tests/benchmarks/decode.py ../shared/data/grid/manifest.csv --label digit

Both read the same frame at the same size and the same audio at the same rate of each clip, in as many
processes; decord alone keeps nothing, `prepare` also makes spectrograms and writes a store. Each is a
command of its own, timed from its start to its end, after one round that does not count, and in turns;
the median of the rounds' ratios is what to read, since both halves of a round see the same machine.
Longer lists are the manifest's clips again under other ids. Prints two Markdown tables.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from mgap_cli.config import DataConfig
from mgap_cli.cores import usable_cores

SAMPLING_SECONDS = 0.2
MB = 1e6


def alone(paths: list[str], size: int, rate: int) -> None:
    """Decode the middle frame and the audio of each clip, and keep nothing."""
    import decord

    for path in paths:
        video = decord.VideoReader(path, width=size, height=size, num_threads=1)
        video.get_batch([len(video) // 2]).asnumpy()
        del video  # it would continue to decode in its own thread
        decord.AudioReader(path, sample_rate=rate, mono=True)


def repeated(manifest: Path, clips: int, folder: Path) -> Path:
    """Write a manifest of `clips` rows that repeats the rows of the given one, beside links to its media."""
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    folder.mkdir()
    for row in rows:
        target = folder / row["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.hardlink_to(manifest.parent / row["path"])
        except OSError:  # another disk
            shutil.copyfile(manifest.parent / row["path"], target)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for i in range(clips):
            row = rows[i % len(rows)]
            writer.writerow({**row, "id": f"{row['id']}-{i // len(rows)}"})
    return folder / "manifest.csv"


def media(manifest: Path) -> list[str]:
    with manifest.open(newline="") as file:
        return [str(manifest.parent / row["path"]) for row in csv.DictReader(file)]


def prepare_line(manifest: Path, out: Path, label: str, workers: int) -> list[str]:
    line = [sys.executable, "-m", "mgap_cli", "prepare", "manifest", str(manifest), "--label", label]
    return [*line, "-o", str(out), "--workers", str(workers), "--quiet"]


def seconds_of_prepare(manifest: Path, label: str, workers: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        line = prepare_line(manifest, Path(folder) / "s", label, workers)
        begin = time.perf_counter()
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begin


def seconds_of_decord(manifest: Path, workers: int) -> float:
    paths = media(manifest)
    begin = time.perf_counter()
    crew = [
        subprocess.Popen([sys.executable, __file__, "--alone"], stdin=subprocess.PIPE, text=True)
        for _ in range(workers)
    ]
    for i, process in enumerate(crew):
        assert process.stdin
        process.stdin.write("\n".join(paths[i::workers]))
        process.stdin.close()
    codes = [process.wait() for process in crew]
    if any(codes):
        sys.exit("decord alone failed")
    return time.perf_counter() - begin


def peak_memory(manifest: Path, label: str, workers: int) -> tuple[float, float]:
    """Return the peak memory of a `prepare` in bytes: of the largest process, and of all processes.

    Resident memory of the largest; proportional (pages that are shared count once) of all.
    """
    largest = together = 0.0
    with tempfile.TemporaryDirectory() as folder:
        line = prepare_line(manifest, Path(folder) / "s", label, workers)
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, start_new_session=True)
        while process.poll() is None:
            sizes = [memory(pid) for pid in session(process.pid)]
            largest = max([largest, *(resident for resident, _ in sizes)])
            together = max(together, sum(proportional for _, proportional in sizes))
            time.sleep(SAMPLING_SECONDS)
    return largest, together


def session(leader: int) -> list[int]:
    """Return the processes of a session: `prepare`, the server that it forks from, and its workers."""
    processes = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(entry.name)) == leader:
                processes.append(int(entry.name))
        except ProcessLookupError:
            continue
    return processes


def memory(pid: int) -> tuple[float, float]:
    """Return a process's resident and proportional size in bytes; zeros once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return 0.0, 0.0
    sizes = {name: 1024.0 * float(value.split()[0]) for name, value in (line.split(":") for line in lines)}
    return sizes["Rss"], sizes["Pss"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--label", required=True)
    parser.add_argument("--workers", type=int, default=usable_cores())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, nargs="+", default=[1000, 4000], help="lengths that are timed")
    parser.add_argument("--memory", type=int, nargs="*", default=[250, 1000, 4000], help="lengths weighed")
    options = parser.parse_args()
    workers, label = options.workers, options.label

    with tempfile.TemporaryDirectory() as folder:
        lists = {
            n: repeated(options.manifest.absolute(), n, Path(folder) / str(n))
            for n in sorted({*options.clips, *options.memory})
        }
        print(f"| clips ({workers} processes) | decord alone, clips/s | prepare, clips/s | ratio (range) |")
        print("|---|---|---|---|")
        for n in options.clips:
            rounds = []
            for _ in range(options.rounds + 1):
                pair = seconds_of_decord(lists[n], workers), seconds_of_prepare(lists[n], label, workers)
                print(f"{n} clips: {pair[0]:.2f} s, {pair[1]:.2f} s", file=sys.stderr, flush=True)
                rounds.append(pair)
            del rounds[0]
            bare, ours = (n / median(times) for times in zip(*rounds, strict=True))
            ratios = sorted(a / b for a, b in rounds)
            spread = f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            print(f"| {n} | {bare:.0f} | {ours:.0f} | {spread} |", flush=True)
        print("\n| clips | largest process, MB | all processes, MB |")
        print("|---|---|---|")
        for n in options.memory:
            largest, together = peak_memory(lists[n], label, workers)
            print(f"| {n} | {largest / MB:.0f} | {together / MB:.0f} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--alone"]:
        protocol = DataConfig()
        alone(sys.stdin.read().splitlines(), protocol.frame_size, protocol.sample_rate)
    else:
        main()
