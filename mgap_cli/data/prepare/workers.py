"""Processes that each read one clip at a time, so that a crash or a hang loses only one clip.

A worker sets the kernel's alarm before each clip. If the decoder hangs, even inside C, the alarm ends the
process; the parent sees the pipe close and starts another worker. The clip that the worker was reading is
tried once more, because a worker can also end if the machine was suspended or short of memory. If it fails
again, the clip is skipped.

A worker whose memory has grown is replaced, because decoders leak memory (decord keeps every waveform that it
has read). Workers are forked from a server that has imported the heavy packages once, so a new worker starts
in milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import resource
import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

Task = tuple[int, Any]  # the row, and the arguments of the job
Job = Callable[[Any], Any]
Result = tuple[int, Any, str]  # row, what the job returned, why its worker died
Results = Generator[Result, None, None]

_AT_HAND = 2  # tasks per worker: the present one and the next, so that it never waits for the parent

_GROWTH = 1 << 27  # bytes by which a worker may grow before another takes its place

# These signals reach every process of a terminal or of a Slurm step. The parent handles them. Its workers end
# when it ends; if they ended before, the parent would blame their clips.
_PARENTS_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


@dataclass
class _Worker:
    process: Any
    tasks: deque[Task] = field(default_factory=deque)  # in the order of its work
    ready: bool = False


def run_watched(
    make_job: Callable[..., Job],
    arguments: tuple[Any, ...],
    tasks: Iterable[Task],
    workers: int,
    limit: float,
    preload: Sequence[str] = (),
) -> Results:
    """Yield (row, result, "") or (row, None, why its workers died) for each task, as they finish.

    `make_job(*arguments)` runs once in each process and returns the function that does a task; both must
    be picklable. `limit` is the time per task in seconds; `preload` names modules to import beforehand. An
    exception in a job is raised here as RuntimeError.
    """
    crew = _Crew(make_job, arguments, tasks, limit, preload)
    try:
        for _ in range(workers):
            crew.start_worker()
        while crew.workers:
            for connection in wait(list(crew.workers)):
                assert isinstance(connection, Connection)
                if result := crew.next_result(connection):
                    yield result
    finally:
        crew.kill()


class _Crew:
    """The workers that are alive, by the pipe to each, and the tasks that none of them has.

    again: tasks that a worker left behind, which come before the rest. suspects: rows that ended one worker.
    """

    def __init__(
        self,
        make_job: Callable[..., Job],
        arguments: tuple[Any, ...],
        tasks: Iterable[Task],
        limit: float,
        preload: Sequence[str],
    ) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(list(preload))
        self.make_job, self.arguments, self.limit = make_job, arguments, limit
        self.rest, self.again = iter(tasks), deque[Task]()
        self.workers: dict[Connection, _Worker] = {}
        self.suspects: set[int] = set()

    def start_worker(self) -> None:
        here, there = self.context.Pipe()
        words = (there, self.make_job, self.arguments, self.limit)
        process = self.context.Process(target=_work, args=words, daemon=True)
        with _held_back():
            process.start()
            self.workers[here] = _Worker(process)
        there.close()

    def next_result(self, connection: Connection) -> Result | None:
        """Take what a worker sent and give it, or its successor, more tasks; None if it finished no task.

        Raises RuntimeError for an exception in a job, and for a worker that died before its first task.
        """
        worker = self.workers[connection]
        try:
            message, value = connection.recv()
        except (EOFError, OSError):
            return self._replace_dead(connection)
        if message == "error":
            raise RuntimeError(value)
        done = worker.tasks.popleft() if worker.ready else None
        worker.ready = True
        if message == "last":
            self.again.extend(worker.tasks)
            self._dismiss(connection)
            self.start_worker()
        else:
            self._feed(connection)
        return (done[0], value, "") if done else None

    def kill(self) -> None:
        for connection, worker in self.workers.items():
            worker.process.kill()
            worker.process.join()
            connection.close()

    def _replace_dead(self, connection: Connection) -> Result | None:
        """Start another worker for one that died; its task is tried again, or is to blame the second time."""
        worker = self.workers[connection]
        worker.process.join()
        self._dismiss(connection)
        cause = _cause(worker.process.exitcode, self.limit)
        if not worker.ready:
            raise RuntimeError(f"a process that decodes could not start: {cause}") from None
        self.start_worker()
        row = worker.tasks[0][0]
        blamed = row in self.suspects
        if blamed:
            worker.tasks.popleft()
        self.suspects.add(row)
        self.again.extend(worker.tasks)
        return (row, None, cause) if blamed else None

    def _feed(self, connection: Connection) -> None:
        """Send a worker tasks up to its limit, and tell a worker without tasks to end."""
        worker = self.workers[connection]
        while len(worker.tasks) < _AT_HAND and (task := self._next_task()):
            worker.tasks.append(task)
            _send(connection, task)
        if not worker.tasks:
            self._dismiss(connection)

    def _next_task(self) -> Task | None:
        return self.again.popleft() if self.again else next(self.rest, None)

    def _dismiss(self, connection: Connection) -> None:
        del self.workers[connection]
        connection.close()


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Block the parent's signals; a process that is started within the block never receives them."""
    resource_tracker.ensure_running()  # else it would start in the block and unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _PARENTS_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _send(connection: Connection, task: Task) -> None:
    with contextlib.suppress(OSError):  # the worker died between two clips; `wait` sees the end of its pipe
        connection.send(task[1])


def _work(
    connection: Connection, make_job: Callable[..., Job], arguments: tuple[Any, ...], limit: float
) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _PARENTS_SIGNALS)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    # Output of C libraries about a broken file would break the progress bar; reasons go through the pipe.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    _keep_memory()
    try:
        job = make_job(*arguments)
        connection.send(("ready", None))
        full = _peak_memory() + _GROWTH
        leaving = False
        while not leaving:
            task = connection.recv()
            signal.setitimer(signal.ITIMER_REAL, limit)
            result = job(task)
            signal.setitimer(signal.ITIMER_REAL, 0)
            leaving = _peak_memory() > full
            connection.send(("last" if leaving else "done", result))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent has ended, or has no more clips
    except Exception as error:
        connection.send(("error", f"{type(error).__name__}: {error}"))


def _keep_memory() -> None:
    """Make the C library keep freed memory; new memory for every frame takes 5 % of the time."""
    trim_threshold, mmap_threshold = (
        -1,
        -3,
    )  # glibc's numbers; other libraries have no mallopt
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(mmap_threshold, 1 << 25)
        library.mallopt(trim_threshold, 1 << 27)


def _peak_memory() -> int:
    """Return the peak memory of this process, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _cause(exitcode: int | None, limit: float) -> str:
    if exitcode == -signal.SIGALRM:
        return f"decoder hung for more than {limit:g} s"
    if exitcode is not None and exitcode < 0:
        return f"decoder crashed ({signal.Signals(-exitcode).name})"
    return f"decoder crashed (exit code {exitcode})"
