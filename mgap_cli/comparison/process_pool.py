"""Runs cells in processes of their own, several at a time.

The processes are forked from a server that has imported torch, so that a cell starts in milliseconds. They
are separate: a crash or `kill -9` of one does not touch the others. A cell whose parent is killed ends too.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mgap_cli.errors import STOP_SIGNALS, ExitCode, MgapError, reason_of
from mgap_cli.output import Output, say
from mgap_cli.signals import stop_on_signal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import ForkServerProcess

_POLL_SECONDS = 1.0  # between two looks at the signals, and at the heartbeat

Job = TypeVar("Job")


@dataclass(frozen=True)
class Worker:
    """What one process computes with. device: as for `--device`; threads: CPU threads."""

    device: str
    threads: int


def workers(device: str, jobs: int | None, per_gpu: int, gpus: int, cores: int) -> list[Worker]:
    """Return what each of the processes that run at the same time computes with.

    On GPUs (`device` is auto or cuda and there are some): per_gpu of each, taken in turn, or `jobs` in all.
    Else `jobs` (default 1) on `device`. The cores are divided among them, at least one each.
    """
    shared = device in ("auto", "cuda") and gpus > 0
    count = jobs or (gpus * per_gpu if shared else 1)
    threads = max(1, cores // count)
    return [Worker(f"cuda:{i % gpus}" if shared else device, threads) for i in range(count)]


@dataclass(frozen=True)
class Ended(Generic[Job]):
    """A job whose process has ended. code: its exit code, negative for the signal that killed it."""

    job: Job
    code: int


class StoppedBySignal(MgapError):
    """A signal, `number`, stopped the cells that ran; all of them are saved (exit 75)."""

    def __init__(self, number: int) -> None:
        message = f"stopped by {signal.Signals(number).name}; the running cells are saved."
        super().__init__(message, "Run the same command again.", ExitCode.PREEMPTED)
        self.number = number


class ProcessPool(Generic[Job]):
    """Runs `work(job, worker)` for each job in a process of its own, as many at a time as there are workers.

    log: where a job's process prints. preload: modules that the server imports before it forks.
    """

    def __init__(
        self,
        work: Callable[[Job, Worker], None],
        log: Callable[[Job], Path],
        at: Sequence[Worker],
        preload: Sequence[str] = (),
    ) -> None:
        self.work, self.log = work, log
        self.free = list(at)
        self.running: dict[int, tuple[ForkServerProcess, Job, Worker]] = {}
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["__main__", *preload])

    def run(self, jobs: Sequence[Job], sink: Output) -> Iterator[Ended[Job]]:
        """Yield each job as it ends.

        At SIGTERM, SIGUSR1 or Ctrl-C the processes are asked to save and end. Raises StoppedBySignal for the
        former two.
        """
        waiting = list(jobs)
        _start_server()
        with sink.progress("compare", len(jobs), "cells") as tick, stop_on_signal() as flag, self._ending():
            while waiting or self.running:
                while waiting and self.free and not flag.caught:
                    self._start(waiting.pop(0))
                wait([process.sentinel for process, _, _ in self.running.values()], _POLL_SECONDS)
                if flag.caught:  # before any process is taken for one that failed: they were stopped too
                    raise StoppedBySignal(flag.caught)
                yield from self._ended()
                now = ", ".join(str(job) for _, job, _ in self.running.values())
                tick(len(jobs) - len(waiting) - len(self.running), f"running: {now}" if now else "")

    def _start(self, job: Job) -> None:
        worker = self.free.pop(0)
        arguments = (self.work, job, worker, self.log(job), Path.cwd())
        process = self.context.Process(target=_run_one, args=arguments)
        process.start()
        self.running[process.sentinel] = (process, job, worker)

    def _ended(self) -> list[Ended[Job]]:
        ended = []
        for sentinel, (process, job, worker) in list(self.running.items()):
            if process.exitcode is not None:
                del self.running[sentinel]
                self.free.append(worker)
                ended.append(Ended(job, process.exitcode))
                process.close()
        return ended

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """End the processes that still run when the block ends, however it ends."""
        try:
            yield
        finally:
            for process, _, _ in self.running.values():
                process.terminate()
            for process, _, _ in self.running.values():
                process.join()


def _start_server() -> None:
    """Start the server that processes are forked from, deaf to stop signals.

    A scheduler sends them to every process. The server must live until the processes that it has forked have
    saved their work, for it passes on their exit codes. Each of them listens again, in `_run_one`.
    """
    from multiprocessing.forkserver import ensure_running

    before = {number: signal.signal(number, signal.SIG_IGN) for number in STOP_SIGNALS}
    try:
        ensure_running()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run_one(
    work: Callable[[Any, Worker], None], job: object, worker: Worker, log: Path, folder: Path
) -> None:
    """Run one job as the whole of a process: its own log, its own threads, no traceback."""
    import torch

    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent decides
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    os.chdir(folder)
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    torch.set_num_threads(worker.threads)
    if not os.environ.get("OMP_NUM_THREADS"):
        os.environ["OMP_NUM_THREADS"] = str(worker.threads)  # what `runtime.threads=auto` then means
    try:
        work(job, worker)
    except MgapError as error:
        say(f"error: {error.message}")
        raise SystemExit(int(error.exit_code)) from None
    except Exception as error:
        say(f"error: {reason_of(error)}")
        raise SystemExit(int(ExitCode.FAILED)) from error


def _end_with_parent() -> None:
    """End this process when its parent is gone, however the parent ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(int(ExitCode.PREEMPTED))
