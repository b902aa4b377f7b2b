"""After a signal, a kill or a full disk at any time, the same command ends with the same store."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import pausing
from helpers.media import write_media
from helpers.program import HANG, ROOT, Done, listing, mgap, sets, start

from mgap_cli.config import DataConfig
from mgap_cli.data.clips import Clip, Dataset
from mgap_cli.data.prepare.build import build_store
from mgap_cli.data.prepare.workers import run_watched
from mgap_cli.data.store import is_store, open_store, verify
from mgap_cli.errors import MgapError
from mgap_cli.output import Output

FAST = sets(
    *("data.frames=2", "data.frame_size=48", "data.sample_rate=8000", "data.seconds=0.5"),
    *("data.n_fft=128", "data.hop=64"),
)
PAUSED = "from helpers import pausing; pausing.install(); from mgap_cli.__main__ import main; main()"
CLIPS = 150
BROKEN = (17, 90)


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    """A manifest of 150 clips, of which two files are incomplete."""
    folder = tmp_path_factory.mktemp("media")
    sources = [write_media(folder / f"kind{i}.mp4", size=(320, 240), hertz=300 + 100 * i) for i in range(3)]
    rows = ["id,path,split,word"]
    for i in range(CLIPS):
        path = folder / f"{i}.mp4"
        if i in BROKEN:
            path.write_bytes(sources[0].read_bytes()[:3000])
        else:
            os.link(sources[i % 3], path)
        rows.append(f"{i},{path.name},train,{'ab'[i % 2]}")
    (folder / "manifest.csv").write_text("\n".join([*rows, ""]))
    return folder / "manifest.csv"


@pytest.fixture
def pauses(tmp_path) -> Path:
    """An empty folder for the markers of `pausing`."""
    folder = tmp_path / "pauses"
    folder.mkdir()
    return folder


def line(media: Path, out: Path) -> list[object]:
    return ["prepare", "manifest", media, "-o", out, "--workers", 2, *FAST]


@pytest.fixture(scope="module")
def whole(media, tmp_path_factory) -> dict[str, bytes | None]:
    """The files of the store that was made without interruption."""
    out = tmp_path_factory.mktemp("whole") / "s"
    done = mgap(*line(media, out))
    assert done.code == 0, done.err
    return listing(out)


def journal(out: Path) -> int:
    """The number of complete lines in the journal of an unfinished store."""
    file = out / ".partial" / "journal.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def believed(done: Done) -> int:
    """The number of clips that a run took from the run before."""
    match = re.search(r"unfinished store with (\d+) finished clips", done.err)
    return int(match[1]) if match else 0


class Job:
    """`mgap` as the leader of its own session, as in a terminal or a Slurm step.

    pauses: an empty folder; it pauses there (see `pausing`) when six clips are in its journal.
    """

    def __init__(self, *args: object, pauses: Path | None = None) -> None:
        words = [sys.executable, "-c", PAUSED, *map(str, args)]
        env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
        if pauses is not None:
            env["PAUSE_PREPARE"] = f"6:{pauses}"
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            words,
            cwd=ROOT,
            env=env,
            stdout=pipe,
            stderr=pipe,
            text=True,
            start_new_session=True,
            # Background jobs of a shell, such as CI, ignore Ctrl-C; this process must not.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def members(self) -> list[int]:
        """Return the processes of its session, workers included."""
        processes = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, _, session = stat.read_text().rsplit(")", 1)[1].split()[:4]
            except OSError:  # it has already ended
                continue
            if int(session) == self.process.pid and state != "Z":
                processes.append(int(stat.parent.name))
        return processes

    def wait(self) -> Done:
        out, err = self.process.communicate(timeout=HANG)
        return Done(self.process.returncode, out, err)


def until(happened) -> None:
    deadline = time.monotonic() + HANG
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("number", "everyone", "code"),
    [
        (signal.SIGTERM, False, 75),  # kill PID
        (signal.SIGUSR1, True, 75),  # Slurm's --signal, and
        (signal.SIGTERM, True, 75),  # its scancel, reach every process of the step
        (signal.SIGINT, True, 130),  # as Ctrl-C reaches every process of a terminal
    ],
)
def test_a_signal_loses_no_clip_and_leaves_no_process(tmp_path, pauses, media, whole, number, everyone, code):
    out = tmp_path / "s"
    job = Job(*line(media, out), pauses=pauses)
    until(lambda: any(pauses.iterdir()))
    (os.killpg if everyone else os.kill)(job.process.pid, number)
    done = job.wait()
    done.fails(code, "Run the same command again" if code == 75 else "interrupted")
    until(lambda: not job.members())
    kept = journal(out)
    assert 6 <= kept < CLIPS and b'"skip"' not in b"".join(
        entry
        for entry in (out / ".partial" / "journal.jsonl").read_bytes().splitlines()
        if not any(f'"row": {row},'.encode() in entry for row in BROKEN)
    )
    done = mgap(*line(media, out))
    assert done.code == 0 and believed(done) == kept, done.err
    assert listing(out) == whole


def test_a_signal_before_the_workers_are_up(tmp_path, media):
    out = tmp_path / "s"
    job = Job(*line(media, out))
    until(lambda: (out / ".partial" / "plan.json").exists())
    os.killpg(job.process.pid, signal.SIGINT)
    job.wait().fails(130, "interrupted")
    until(lambda: not job.members())


def test_a_killed_parent_leaves_no_worker_behind(tmp_path, pauses, media):
    out = tmp_path / "s"
    job = Job(*line(media, out), pauses=pauses)
    until(lambda: any(pauses.iterdir()))
    assert len(job.members()) > 1
    job.process.kill()
    assert job.wait().code == -signal.SIGKILL
    until(lambda: not job.members())
    assert job.members() == []


def test_a_second_prepare_is_refused_while_the_first_is_at_work(tmp_path, pauses, media, whole):
    out = tmp_path / "s"
    first = start(*line(media, out), env={"PAUSE_PREPARE": f"1:{pauses}"})
    assert first.until(lambda: any(pauses.iterdir()))
    mgap(*line(media, out)).fails(1, "another prepare is running in this folder")
    (pauses / pausing.GO).touch()
    assert first.wait().code == 0
    assert listing(out) == whole


def make_moody_job(memory: Path):
    """A job that ends its process when a task comes for the first time, as if memory was full."""

    def job(task: str) -> str:
        seen = memory / task
        if not seen.exists():
            seen.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return task

    return job


def test_a_worker_that_is_killed_from_outside_loses_no_clip(tmp_path):
    outcomes = list(run_watched(make_moody_job, (tmp_path,), enumerate("abc"), 2, 10))
    assert sorted(outcomes) == [(0, "a", ""), (1, "b", ""), (2, "c", "")]


# --- a full disk


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of 4 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


CONFIG = DataConfig(frames=1, frame_size=32, sample_rate=8000, seconds=0.3, n_fft=64, hop=40)
ROW_BYTES = 32 * 32 * 3 + 33 * 61 * 2


class FillingReader:
    """Makes a clip from its number; after `after` clips, another program fills the disk with `junk`."""

    def __init__(self, after: int = 10**9, junk: Path = Path(), broken: tuple[str, ...] = ()) -> None:
        self.after, self.junk, self.broken, self.reads = after, junk, broken, 0

    def __call__(self, clip: Clip, config: DataConfig) -> tuple[np.ndarray, np.ndarray]:
        if self.reads == self.after:
            self.junk.write_bytes(bytes(shutil.disk_usage(self.junk.parent).free))
        self.reads += 1
        if clip.id in self.broken:
            raise ValueError("broken")
        rng = np.random.default_rng(int(clip.id))
        return rng.integers(0, 256, (1, 32, 32, 3), np.uint8), rng.normal(0, 0.1, 2400).astype(np.float32)


def numbers(count: int, reader: FillingReader) -> Dataset:
    clips = [Clip(str(i), "ab"[i % 2], "train") for i in range(count)]
    return Dataset("numbers", clips, ("a", "b"), reader=reader)


def test_a_disk_that_is_too_small_from_the_start(small_disk):
    reader = FillingReader()
    wanted = f"{(700 * ROW_BYTES + (1 << 20)) / 1e6:.1f} MB needed"
    with pytest.raises(MgapError, match=rf"{wanted}, 4\.2 MB available"):
        build_store(numbers(700, reader), CONFIG, small_disk / "s", Output())
    assert reader.reads == 0 and not is_store(small_disk / "s")
    assert shutil.disk_usage(small_disk).used < 20_000, "nothing is left behind"


def test_a_disk_that_fills_up_on_the_way(small_disk, tmp_path):
    junk = small_disk / "junk"
    with pytest.raises(MgapError, match=r"the disk is too small: 1\.0 MB needed, 0\.0 MB available"):
        build_store(numbers(200, FillingReader(50, junk)), CONFIG, small_disk / "s", Output())
    junk.unlink()
    reader = FillingReader()
    assert verify(build_store(numbers(200, reader), CONFIG, small_disk / "s", Output()))
    assert reader.reads <= 150
    build_store(numbers(200, FillingReader()), CONFIG, tmp_path / "whole", Output())
    assert listing(small_disk / "s") == listing(tmp_path / "whole")


def test_no_room_for_the_copy_without_the_skipped_clips(small_disk):
    out = small_disk / "s"
    with pytest.raises(MgapError, match=r"the disk is too small: 3\.\d MB needed, 1\.\d MB available"):
        build_store(numbers(350, FillingReader(broken=("7",))), CONFIG, out, Output())
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    reader = FillingReader()
    store = build_store(numbers(350, reader), CONFIG, out, Output())
    assert len(store) == 349 and reader.reads == 0, "what was decoded is not lost"


def test_a_forced_build_without_room_leaves_the_old_store(small_disk):
    build_store(numbers(300, FillingReader()), CONFIG, small_disk / "s", Output())
    with pytest.raises(MgapError, match="the disk is too small"):
        build_store(numbers(310, FillingReader()), CONFIG, small_disk / "s", Output(), force=True)
    assert verify(open_store(small_disk / "s"))


# --- a campaign


@pytest.mark.slow
def test_kill_9_at_20_random_moments(tmp_path, media, whole):
    rng = random.Random(0)
    begin = time.monotonic()
    assert mgap(*line(media, tmp_path / "timed")).code == 0
    usual = time.monotonic() - begin
    interrupted = 0
    for moment in range(20):
        out, kept = tmp_path / f"s{moment}", 0
        for _ in range(rng.choice([1, 1, 2, 3])):
            run = start(*line(media, out))
            time.sleep(rng.uniform(0, usual))
            with contextlib.suppress(ProcessLookupError):  # it was faster
                run.send(signal.SIGKILL)
            done = run.wait()
            if believed(done):
                assert believed(done) == kept
            interrupted += not is_store(out)
            kept = journal(out)
        done = mgap(*line(media, out))
        assert done.code == 0, done.err
        assert believed(done) == kept, "a clip was decoded that the journal had"
        assert listing(out) == whole
    assert interrupted >= 12
