"""Runs `mgap` as a user does: in its own process, with its own streams, signals and exit code.

Importing torch takes seconds, so these processes are forked from a server that has imported it; nothing
else differs from `python -m mgap_cli`, and `shim` makes a real `mgap` for shell scripts.
"""

from __future__ import annotations

import dataclasses
import fcntl
import io
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from helpers import pausing
from helpers.preloaded import MODULES
from mgap_cli.errors import STOP_SIGNALS

ROOT = Path(__file__).resolve().parents[2]
HANG = 600  # seconds; a process that takes longer has hung, even on a slow or busy machine

# A protocol, a network and stages that train in a second.
CLIPS = 180
TINY_DATA = {"frames": 1, "frame_size": 8, "sample_rate": 4000, "seconds": 0.3, "n_fft": 64, "hop": 40}
TINY = [
    *("model.width=4", "augment.image_size=8", "train.batch_size=16", "train.lr=0.003"),
    *("warmup.epochs=3", "adapt.epochs=3", "evaluate.bootstrap=50", "gap.n_init=1"),
]


# Characters that move the cursor, change colours or the writing direction, or add a line: never printed.
STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def sets(*words: str) -> list[str]:
    """Return `--set` options."""
    return [part for word in words for part in ("--set", word)]


@dataclass
class Done:
    """code: exit code; negative if a signal killed the process."""

    code: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """Return stdout, which must be one JSON document."""
        document: dict[str, Any] = json.loads(self.out)
        return document

    def fails(self, code: int, *words: str) -> None:
        """Assert a clean failure: this code, nothing on stdout, a short message that has these words."""
        assert self.code == code, self.err
        assert self.out == ""
        message = self.err[self.err.index("error: ") :]
        assert len(message.splitlines()) <= 3 and "Traceback" not in self.err, self.err
        assert "internal error" not in message, self.err
        for word in words:
            assert word in message, message

    def is_clean(self) -> None:
        """Assert what holds for any input: exit code 0, 2 or 3, one or two lines, no control characters."""
        assert self.code in (0, 2, 3), (self.code, self.err)
        assert not STEERING.search(self.out + self.err), ascii(self.out + self.err)
        if self.code:
            assert self.out == ""
            message = self.err[self.err.index("error: ") :]
            assert len(message.splitlines()) <= 2, message


class Running:
    """A running process, which a test can watch, signal and wait for."""

    def __init__(self, process: Any, folder: Path) -> None:
        self.process, self.folder = process, folder
        self.pid: int = process.pid

    def wait(self) -> Done:
        self.process.join(HANG)
        assert self.process.exitcode is not None, "still running"
        out, err = ((self.folder / name).read_text() for name in ("out", "err"))
        return Done(self.process.exitcode, out, err)

    def send(self, number: int) -> None:
        """Send a signal; nothing happens to a process that has ended."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def until(self, happened: Callable[[], bool]) -> bool:
        """Wait until something has happened; False if the process ended before."""
        while self.process.exitcode is None:
            if happened():
                return True
            time.sleep(0.001)
        return happened()

    def until_paused(self) -> None:
        """Wait until it has reached the step at which `start` was asked to pause."""
        assert self.until(lambda: any(self.pauses.iterdir())), (self.folder / "err").read_text()

    def go_on(self) -> None:
        """Let it continue after its pause."""
        (self.pauses / pausing.GO).touch()

    @property
    def pauses(self) -> Path:
        return self.folder / "pauses"


def start(
    *args: object,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    pause: tuple[int, int] | None = None,
    before: Callable[[], None] | None = None,
) -> Running:
    """Start `mgap`.

    pause: epoch and step of the training, from 0, after which it waits for the test. before: a function of
    a module, called in the new process before the program.
    """
    folder = Path(tempfile.mkdtemp(prefix="mgap-test-"))
    for name in ("out", "err"):
        (folder / name).touch()
    environment = dict(env or {})
    if pause is not None:
        (folder / "pauses").mkdir()
        environment["PAUSE_AT"] = f"{pause[0]}:{pause[1]}:{folder / 'pauses'}"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", *MODULES, "helpers.pausing", "helpers.program"])
    words = [str(arg) for arg in args]
    process = context.Process(target=_main, args=(words, folder, cwd or folder, environment, before))
    process.start()
    return Running(process, folder)


def mgap(
    *args: object,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
) -> Done:
    return start(*args, cwd=cwd, env=env, before=before).wait()


def call(*args: object, env: Mapping[str, str] | None = None) -> Done:
    """Run `mgap` in this process, for property tests: thousands of processes would take minutes."""
    from mgap_cli.__main__ import main

    out, err = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    words = ["mgap", *map(str, args)]
    code = None
    with patch.dict(os.environ, env or {}), patch.object(sys, "argv", words):
        with redirect_stdout(out), redirect_stderr(err):
            try:
                main()
            except SystemExit as end:
                code = end.code
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert isinstance(code, int)
    return Done(int(code), out.getvalue(), err.getvalue())


def here(*args: object) -> Done:
    """Run mgap in this process, which needs no start, and return its output and its exit code."""
    from mgap_cli.__main__ import main

    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    before = sys.argv, sys.stdout, sys.stderr, sys.__stderr__
    out, err = io.StringIO(), io.StringIO()
    try:
        sys.argv = ["mgap", *map(str, args)]
        sys.stdout, sys.stderr, sys.__stderr__ = out, err, err  # type: ignore[misc]
        main()
    except SystemExit as end:
        return Done(int(end.code or 0), out.getvalue(), err.getvalue())
    finally:
        sys.argv, sys.stdout, sys.stderr, sys.__stderr__ = before  # type: ignore[misc]
        for number, handler in handlers.items():
            signal.signal(number, handler)
    raise AssertionError("main returned")


def shim(folder: Path) -> Path:
    """Return a folder for PATH that has a `mgap` of this checkout."""
    path = folder / "bin" / "mgap"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m mgap_cli "$@"\n')
    path.chmod(0o755)
    return path.parent


def tensors(path: Path) -> dict[str, Any]:
    """Return every tensor and number of a checkpoint, {dotted key: value}."""
    flat: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            if isinstance(inner, dict | list | tuple):
                walk(f"{prefix}.{key}", inner)
            else:
                flat[f"{prefix}.{key}"] = inner

    walk("", torch.load(path, weights_only=True))
    return flat


def assert_same_checkpoint(a: Path, b: Path, prefix: str = "") -> None:
    """Assert that two checkpoints are equal bit for bit (only keys under `prefix`, if given)."""
    left, right = ({k: v for k, v in tensors(p).items() if k.startswith(prefix)} for p in (a, b))
    assert left.keys() == right.keys() and left
    for key, value in left.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == right[key].dtype and value.shape == right[key].shape, key
            assert value.contiguous().numpy().tobytes() == right[key].contiguous().numpy().tobytes(), key
        else:
            assert value == right[key], key


def metrics(run: Path, stage: str = "warmup") -> list[dict[str, Any]]:
    """Return a stage's lines of metrics.jsonl; none if it is not there yet."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [entry for entry in map(json.loads, lines) if entry["stage"] == stage]


def status(run: Path) -> dict[str, Any]:
    """Return what status.json says of the training, without time, host and process."""
    document: dict[str, Any] = json.loads((run / "status.json").read_text())
    return {key: value for key, value in document.items() if key not in ("time", "host", "pid")}


def listing(folder: Path) -> dict[str, bytes | None]:
    """Return every file under a folder with its content."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))
    }


def _main(
    args: list[str], folder: Path, cwd: Path, env: dict[str, str], before: Callable[[], None] | None
) -> None:
    from mgap_cli.__main__ import main

    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_WRONLY), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in [n for n in os.environ if n.startswith("MGAP_") or n == "WORLD_SIZE"]:
        del os.environ[name]
    os.environ.update(env)
    os.chdir(cwd)
    torch.set_num_threads(1)
    pausing.install()
    if args[:1] == ["compare"]:
        _share_server()
    if before is not None:
        before()
    sys.argv = ["mgap", *args]
    main()


def _share_server() -> None:
    """Let this process fork its cells from the server that it was forked from itself.

    It would start a server of its own, which imports torch again. Only a test that does not use this module
    sees that: `test_a_signal_to_every_process_fails_no_cell`.
    """
    server = forkserver._forkserver  # type: ignore[attr-defined]
    server.ensure_running = forkserver.ensure_running = lambda: None


def _built_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> Path:
    """Return the folder `name` of this session; of several pytest-xdist workers, the first builds it."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / name
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            build(folder)
    return folder


def _build_tiny_store(folder: Path, seed: int) -> None:
    """Make a store of a few clips of digits."""
    from mgap_cli.config import DataConfig
    from mgap_cli.data.prepare.build import build_store
    from mgap_cli.data.sources import load_dataset
    from mgap_cli.output import Output

    config = DataConfig(**TINY_DATA, val_share=0.2, seed=seed)
    dataset = load_dataset("digits", None, config)
    dataset = dataclasses.replace(dataset, clips=dataset.clips[:CLIPS])
    build_store(dataset, config, folder, Output(quiet=True), workers=1)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished store, which tests only read."""
    return _built_once(tmp_path_factory, "tiny-store", lambda folder: _build_tiny_store(folder, seed=0))


@pytest.fixture(scope="session")
def other_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of other data in the same shapes."""
    return _built_once(tmp_path_factory, "other-store", lambda folder: _build_tiny_store(folder, seed=1))


@pytest.fixture(scope="session")
def finished(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with warmup.pt and adapt.pt, which tests only read."""

    def build(run: Path) -> None:
        done = mgap("warmup", store, "-o", run, *sets(*TINY))
        assert done.code == 0, done.err
        done = mgap("adapt", run / "warmup.pt")
        assert done.code == 0, done.err

    return _built_once(tmp_path_factory, "finished-run", build)


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, which tests may change."""
    return Path(shutil.copytree(finished, tmp_path / "run"))
