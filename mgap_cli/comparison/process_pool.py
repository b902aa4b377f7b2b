"""Runs several cells at the same time, each in its own process.

The processes are forked from a server that has imported torch, so that a cell starts in milliseconds. A crash
or `kill -9` of one process does not affect the others. If the main process is killed, all cells end.
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

_POLL_SECONDS = 1.0  # seconds between two checks of the signals and of the parent

Job = TypeVar("Job")


@dataclass(frozen=True)
class Worker:
    """The device of one process, as for `--device`, and its number of CPU threads."""

    device: str
    threads: int


def workers(device: str, jobs: int | None, per_gpu: int, gpus: int, cores: int) -> list[Worker]:
    """Return the device and the threads of each process that runs at the same time.

    On GPUs (if `device` is auto or cuda and there are GPUs), there are per_gpu processes on each GPU, or
    `jobs` processes in all. Otherwise there are `jobs` processes (default 1) on `device`. The cores are
    divided among the processes; each gets at least one.
    """
    shared = device in ("auto", "cuda") and gpus > 0
    count = jobs or (gpus * per_gpu if shared else 1)
    threads = max(1, cores // count)
    return [Worker(f"cuda:{i % gpus}" if shared else device, threads) for i in range(count)]


@dataclass(frozen=True)
class Ended(Generic[Job]):
    """A job whose process has ended. code: its exit code; negative if a signal killed it."""

    job: Job
    code: int


class StoppedBySignal(MgapError):
    """A signal, `number`, stopped the running cells; all of them are saved (exit code 75)."""

    def __init__(self, number: int) -> None:
        message = f"stopped by {signal.Signals(number).name}; the running cells are saved."
        super().__init__(message, "Run the same command again.", ExitCode.PREEMPTED)
        self.number = number


class ProcessPool(Generic[Job]):
    """Runs `work(job, worker)` for each job in its own process; each worker has one job at a time.

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

        At SIGTERM, SIGUSR1 or Ctrl-C the processes are asked to save and end. Raises StoppedBySignal at
        SIGTERM and SIGUSR1.
        """
        waiting = list(jobs)
        _start_server()
        with sink.progress("compare", len(jobs), "cells") as tick, stop_on_signal() as flag, self._ending():
            while waiting or self.running:
                while waiting and self.free and not flag.caught:
                    self._start(waiting.pop(0))
                wait([process.sentinel for process, _, _ in self.running.values()], _POLL_SECONDS)
                if flag.caught:  # checked first: the signal also stopped the processes, which have not failed
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
        """End the processes that still run when the block ends, also if it ends by an error."""
        try:
            yield
        finally:
            for process, _, _ in self.running.values():
                process.terminate()
            for process, _, _ in self.running.values():
                process.join()


def _start_server() -> None:
    """Start the server from which processes are forked; it ignores stop signals.

    A scheduler sends these signals to every process. The server must run until the processes that it has
    forked have saved their work, because it passes on their exit codes. Each of these processes handles the
    signals again, in `_run_one`.
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
    """Run one job as the only work of a process, with its own log and threads, without a traceback."""
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
        os.environ["OMP_NUM_THREADS"] = str(worker.threads)  # `runtime.threads=auto` takes this number
    try:
        work(job, worker)
    except MgapError as error:
        say(f"error: {error.message}")
        raise SystemExit(int(error.exit_code)) from None
    except Exception as error:
        say(f"error: {reason_of(error)}")
        raise SystemExit(int(ExitCode.FAILED)) from error


def _end_with_parent() -> None:
    """End this process when its parent has ended for any reason."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(int(ExitCode.PREEMPTED))
