"""How fast training is, compared with a plain loop and with the bare step, and for more data.

    python tests/benchmarks/train.py
    python tests/benchmarks/train.py --only a b --clips 384 --rounds 5

a  `warmup` against a plain loop: a Dataset that reads an image and a WAV file an item and computes PIL
   transforms and an STFT on them, DataLoader workers = cores, float32, NCHW. Both train two ResNet-18 on
   CREMA-D's protocol: one 224 x 224 frame, a 257 x 188 spectrogram, batches of 64.
b  `warmup` against the bare step: the same network's forward, backward and optimizer step, in the same
   precision, on one batch that is there already.
c  an adaptive epoch against a warm-up epoch, on the embedded digits: `scores` online and pass.
d  an epoch over 1, 4 and 16 times the samples, from disk: time and the process's own memory.
e  from a command's start: `mgap --help`, and a training run of a single step.
f  `warmup` in float32, in mixed precision, and compiled: later epochs of one run each. Only with --only f.

Rounds go in turns after one that does not count, and the median of their ratios is what to read: both
halves of a round see the same machine. On every device there is: CPU, then CUDA.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from scipy.io import wavfile
from torch.utils.data import DataLoader, Dataset

from mgap_cli.config import Config, DataConfig, preset, resolve
from mgap_cli.cores import usable_cores
from mgap_cli.data import clips as media
from mgap_cli.data.prepare.build import build_store
from mgap_cli.data.sources import load_dataset
from mgap_cli.data.store import Store, open_store
from mgap_cli.model.network import MultimodalNetwork
from mgap_cli.output import Output
from mgap_cli.runs.checkpoint import load_checkpoint
from mgap_cli.training.precision import Precision, choose_precision
from mgap_cli.training.stage import Stage
from mgap_cli.training.trainer import Trainer

CLASSES = 6  # CREMA-D's
PICTURE = (360, 480)  # of CREMA-D's videos
RATE = 22_050
GROWTH = (1, 4, 16)
STORED_ON_DISK = "runtime.memory_share=1e-9"  # nothing fits
QUIET = Output(quiet=True)


def made_store(folder: Path, clips: int, config: DataConfig) -> Store:
    """Build a store of noise with training samples only."""

    def read(clip: media.Clip, config: DataConfig) -> tuple[np.ndarray, np.ndarray]:
        draw = np.random.default_rng(int(clip.id))
        shape = (config.frames, config.frame_size, config.frame_size, 3)
        wave = 0.1 * draw.standard_normal(round(config.seconds * config.sample_rate), dtype=np.float32)
        return draw.integers(0, 256, shape, dtype=np.uint8), wave

    names = tuple(f"class {c}" for c in range(CLASSES))
    made = [media.Clip(str(i), names[i % CLASSES], "train") for i in range(clips)]
    return build_store(media.Dataset("made", made, names, reader=read), config, folder, QUIET, workers=1)


class FilesDataset(Dataset[tuple[torch.Tensor, torch.Tensor, int]]):
    """A plain data set, as in the literature: each item is read from its files and transformed separately."""

    def __init__(self, folder: Path, clips: int) -> None:
        from PIL import Image
        from torchvision import transforms

        folder.mkdir()
        self.folder, self.clips = folder, clips
        draw = np.random.default_rng(0)
        for i in range(clips):
            coarse = Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=np.uint8))
            coarse.resize(PICTURE[::-1], Image.Resampling.BICUBIC).save(folder / f"{i}.jpg")
            wave = 3000 * draw.standard_normal(3 * RATE, dtype=np.float32)
            wavfile.write(folder / f"{i}.wav", RATE, wave.clip(-32768, 32767).astype(np.int16))
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(224),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )

    def __len__(self) -> int:
        return self.clips

    def __getitem__(self, item: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        from PIL import Image

        image = self.transform(Image.open(self.folder / f"{item}.jpg").convert("RGB"))
        _, wave = wavfile.read(self.folder / f"{item}.wav")
        samples = torch.from_numpy(wave.astype(np.float32) / 32768).clamp(-1, 1)
        spectrum = torch.stft(samples, 512, 353, window=torch.hann_window(512), return_complex=True)
        return image[None], (spectrum.abs() + 1e-7).log()[None], item % CLASSES


class Stepper:
    """A network, its optimizer, and a training step with the cross-entropy of the three heads."""

    def __init__(self, config: Config, precision: Precision, memory_format: torch.memory_format) -> None:
        self.precision, self.device = precision, precision.device
        network = MultimodalNetwork(config.model, CLASSES)
        self.network = network.to(self.device).to(memory_format=memory_format)
        train = config.train
        options: dict[str, Any] = {"momentum": train.momentum, "weight_decay": train.weight_decay}
        if memory_format == torch.channels_last:  # the plain loop has PyTorch's defaults
            options["fused"] = True
        self.optimizer = torch.optim.SGD(self.network.parameters(), train.lr, **options)

    def __call__(self, frames: torch.Tensor, audio: torch.Tensor, labels: torch.Tensor) -> None:
        with self.precision.autocast():
            outputs = self.network({"audio": audio, "visual": frames})
        loss = sum(torch.nn.functional.cross_entropy(z.float(), labels) for z in outputs.logits.values())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()


def timed(work: Callable[[], None], device: torch.device) -> float:
    """Return the seconds that `work` takes, including its work on the device."""
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


class Run:
    """A stage that is trained one epoch at a time; each epoch continues from the last checkpoint."""

    def __init__(
        self,
        folder: Path,
        store: Store,
        config: Config,
        precision: Precision,
        warm: Path | None = None,
    ) -> None:
        folder.mkdir(parents=True)
        self.folder, self.store, self.config, self.precision = folder, store, config, precision
        self.initial = (warm, load_checkpoint(warm)) if warm else None
        self.name = "adapt" if warm else "warmup"
        self.epochs = 0

    def epoch(self) -> float:
        """Train one more epoch; return its seconds, without validation and checkpoints."""
        self.epochs += 1
        method = (self.config.adapt if self.initial else self.config.warmup).method
        stage = Stage(self.name, method, self.epochs, 1000)
        self.path = Trainer(
            stage, self.config, self.store, self.folder, QUIET, self.precision, initial=self.initial
        ).fit()
        last = (self.folder / "metrics.jsonl").read_text().splitlines()[-1]
        return float(json.loads(last)["seconds"])


def rounds(options: argparse.Namespace, *sides: Callable[[], float]) -> list[list[float]]:
    """Return the measurements of each side, taken in turns after a round that does not count."""
    for side in sides:
        side()
    taken = [[side() for side in sides] for _ in range(options.rounds)]
    return [list(figures) for figures in zip(*taken, strict=True)]


def ratio(ours: list[float], theirs: list[float]) -> str:
    """Return the median of the rounds' ratios, with the smallest and the largest."""
    each = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    return f"{median(each):.2f} ({each[0]:.2f} to {each[-1]:.2f})"


def cremad(options: argparse.Namespace, precision: str) -> Config:
    words = [f"train.batch_size={options.batch}", f"runtime.precision={precision}", "train.select=last"]
    return resolve(preset("cremad"), sets=[*words, *options.set], environment={})


def speed(options: argparse.Namespace, folder: Path, device: torch.device) -> None:
    """Print (a) and (b)."""
    config = cremad(options, options.precision)
    store = made_store(folder / "store", options.clips, config.data)
    precision = choose_precision(config.runtime.precision, device, config, QUIET)
    ours = Run(folder / "run", store, config, precision)

    def rate() -> float:
        return options.clips / ours.epoch()

    print(
        f"\n{options.clips} clips per epoch, batches of {options.batch}, "
        f"{precision.name} on {named(device)}\n"
    )
    print("| | `warmup`, samples/s | other, samples/s | ratio (range) | goal |\n|---|---:|---:|---:|---:|")
    if "a" in options.only:
        files = FilesDataset(folder / "files", options.clips)
        loader = DataLoader(
            files,
            options.batch,
            shuffle=True,
            num_workers=usable_cores(),
            persistent_workers=True,
            pin_memory=device.type == "cuda",
        )
        plain = Stepper(config, Precision("fp32", device), torch.contiguous_format)

        def plain_epoch() -> None:
            for frames, audio, labels in loader:
                plain(frames.to(device), audio.to(device), labels.to(device))

        speeds, other = rounds(options, rate, lambda: options.clips / timed(plain_epoch, device))
        goal = "10" if device.type == "cuda" else "3"
        print(row("a: plain loop, float32", speeds, other, f"at least {goal}"), flush=True)
        del loader, plain
    if "b" in options.only:
        bare = Stepper(config, precision, torch.channels_last)
        size = min(options.batch, options.clips)
        frames = torch.randn(size, 1, 3, 224, 224, device=device)
        audio = torch.randn(size, 1, 257, 188, device=device)
        labels = torch.arange(size, device=device) % CLASSES
        steps = max(1, options.clips // size)

        def bare_steps() -> None:
            for _ in range(steps):
                bare(frames, audio, labels)

        speeds, other = rounds(options, rate, lambda: steps * size / timed(bare_steps, device))
        print(row("b: bare step", speeds, other, "at least 0.95"), flush=True)
        if options.profile:
            from torch.profiler import profile

            with profile() as profiler:
                ours.epoch()
            print(f"\n{profiler.key_averages().table('self_cpu_time_total', row_limit=25)}")


def precisions(options: argparse.Namespace, folder: Path, device: torch.device) -> None:
    """Print (f). The first two epochs load the samples, choose kernels and compile; they do not count."""
    store = made_store(folder / "precisions", options.clips, cremad(options, "fp32").data)
    print(f"\n{options.clips} clips per epoch, batches of {options.batch}, on {named(device)}\n")
    print("| f: `warmup` | samples/s | against float32 |\n|---|---:|---:|")
    rates: list[float] = []
    for name, compiled in (("fp32", False), (options.precision, False), (options.precision, True)):
        config = cremad(options, name).updated({"runtime.compile": compiled}, "benchmark")
        precision = choose_precision(name, device, config, QUIET)
        run = folder / f"precisions-{len(rates)}"
        run.mkdir()
        stage = Stage("warmup", config.warmup.method, options.rounds + 2, options.rounds + 2)
        Trainer(stage, config, store, run, QUIET, precision).fit()
        lines = (run / "metrics.jsonl").read_text().splitlines()[2:]
        rates.append(options.clips / median(json.loads(line)["seconds"] for line in lines))
        label = f"{precision.name}{', --compile' if compiled else ''}"
        print(f"| {label} | {rates[-1]:.1f} | {rates[-1] / rates[0]:.2f} |", flush=True)


def row(name: str, ours: list[float], other: list[float], goal: str) -> str:
    return f"| {name} | {median(ours):.1f} | {median(other):.1f} | {ratio(ours, other)} | {goal} |"


def adaptive(options: argparse.Namespace, folder: Path, device: torch.device) -> None:
    """Print (c)."""
    config = resolve(preset("digits"), sets=["train.select=last"], environment={})
    dataset = load_dataset("digits", None, config.data)
    store = build_store(dataset, config.data, folder / "digits", QUIET, workers=1)
    precision = choose_precision(options.precision, device, config, QUIET)
    warm = Run(folder / "digits-warm", store, config, precision)
    warm.epoch()
    runs = {}
    for scores in ("online", "pass"):
        chosen = config.updated({"adaptive.scores": scores}, "benchmark")
        runs[scores] = Run(folder / f"digits-{scores}", store, chosen, precision, warm.path)
    for run in runs.values():
        run.epoch()  # the very first has no scores of its own yet
    speeds = rounds(options, warm.epoch, *(run.epoch for run in runs.values()))
    print(f"\nDigits, {precision.name} on {named(device)}\n")
    print("| c: epoch | seconds | against warm-up (range) | goal |\n|---|---:|---:|---:|")
    print(f"| warm-up | {median(speeds[0]):.2f} | | |")
    for scores, figures, goal in zip(runs, speeds[1:], ("at most 1.05", ""), strict=True):
        print(f"| adaptive, {scores} | {median(figures):.2f} | {ratio(figures, speeds[0])} | {goal} |")


def growth(options: argparse.Namespace, folder: Path) -> None:
    """Print (d), with a separate process for each size."""
    data = DataConfig(frame_size=128, sample_rate=4000, seconds=0.5, n_fft=64, hop=40, val_share=0)
    speeds = []
    for times in GROWTH:
        store = made_store(folder / f"store-{times}", options.growth_clips * times, data)
        size = (store.frames.nbytes + store.audio.nbytes) / 1e6
        line = [sys.executable, __file__, "--grown", str(store.path), str(options.rounds)]
        done = subprocess.run(line, capture_output=True, text=True, check=True)
        speeds.append((times, size, json.loads(done.stdout)))
    print("\n| d: samples | store, MB | epoch, s | ms per sample, against 1x | own memory, MB |")
    print("|---:|---:|---:|---:|---:|")
    first = speeds[0][2]["seconds"]
    for times, size, one in speeds:
        relative = one["seconds"] / times / first
        print(
            f"| {times}x ({times * options.growth_clips}) | {size:.0f} | {one['seconds']:.2f} "
            f"| {relative:.2f} | {one['memory']:.0f} |"
        )


def grown(path: Path, count: int) -> None:
    """Train epochs on a store from disk; print seconds (median) and the peak of anonymous memory, MB."""
    peak = 0.0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            lines = Path("/proc/self/status").read_text().splitlines()
            anonymous = next(line for line in lines if line.startswith("RssAnon"))
            peak = max(peak, int(anonymous.split()[1]) / 1e3)

    small = ["model.encoder=resnet10", "model.width=4", "augment.image_size=32", "train.select=last"]
    config = resolve(Config(), sets=[*small, STORED_ON_DISK], environment={})
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder) / "run", open_store(path), config, Precision("fp32", torch.device("cpu")))
        run.epoch()
        thread = threading.Thread(target=watch)
        thread.start()
        seconds = median(run.epoch() for _ in range(count))
        done.set()
        thread.join()
    print(json.dumps({"seconds": seconds, "memory": peak}))


def startup(options: argparse.Namespace, folder: Path) -> None:
    """Print (e)."""
    data = DataConfig(frame_size=32, sample_rate=4000, seconds=0.5, n_fft=64, hop=40, val_share=0)
    store = made_store(folder / "startup", 16, data)
    small = ["--set", "model.width=4", "--set", "augment.image_size=32", "--epochs", "1", "--select", "last"]
    mgap = [sys.executable, "-m", "mgap_cli"]
    run = [*mgap, "warmup", str(store.path), "-o", str(folder / "startup-run"), "--force", *small]
    print("\n| e: from the command's start | seconds | goal |\n|---|---:|---:|")
    for name, line, goal in (
        ("`mgap --help`", [*mgap, "--help"], "under 0.3"),
        ("`mgap warmup`, a run of one step", run, ""),
    ):

        def command(line: list[str] = line) -> float:
            started = time.perf_counter()
            subprocess.run(line, capture_output=True, check=True)
            return time.perf_counter() - started

        (figures,) = rounds(options, command)
        print(f"| {name} | {median(figures):.2f} | {goal} |", flush=True)


def named(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
    return f"CPU, {torch.get_num_threads()} threads, {load}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=list("abcde"), choices=list("abcdef"), metavar="SECTION")
    parser.add_argument("--clips", type=int, default=256, help="samples per epoch in a, b and f")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--growth-clips", type=int, default=512, help="samples of 1x in d")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: all there are")
    parser.add_argument("--profile", action="store_true", help="where an epoch's time goes, after b")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as for mgap")
    parser.add_argument("--grown", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.grown:
        grown(Path(options.grown[0]), int(options.grown[1]))
        return
    devices = (
        [options.device] if options.device else ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    )
    with tempfile.TemporaryDirectory(prefix="mgap-train-") as name:
        for device in map(torch.device, devices):
            folder = Path(name) / device.type
            folder.mkdir()
            if {"a", "b"} & set(options.only):
                speed(options, folder, device)
            if "f" in options.only:
                precisions(options, folder, device)
            if "c" in options.only:
                adaptive(options, folder, device)
        if "d" in options.only:
            growth(options, Path(name))
        if "e" in options.only:
            startup(options, Path(name))


if __name__ == "__main__":
    main()
