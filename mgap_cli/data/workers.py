"""Processes that read clips, one clip each at a time, watched: a crash or a hang costs one clip.

A worker sets the kernel's alarm before each clip. If the decoder hangs, even inside C, the alarm ends the
process; the parent sees the pipe close, blames the clip that was in flight, and starts another worker.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterable
from multiprocessing.connection import Connection, wait
from typing import Any

Task = tuple[int, Any]  # row and whatever the job takes
Job = Callable[[Any], Any]
Results = Generator[tuple[int, Any, str], None, None]  # row, what the job returned, why its worker died


def run_watched(
    make_job: Callable[..., Job],
    arguments: tuple[Any, ...],
    tasks: Iterable[Task],
    workers: int,
    limit: float,
) -> Results:
    """Yield (row, result, "") or (row, None, why the worker died) for each task, as they finish.

    `make_job(*arguments)` runs once in each process and returns the function that does a task; both must
    be picklable. `limit` is in seconds a task. An exception in a job is raised here as RuntimeError.
    """
    context = multiprocessing.get_context("spawn")
    waiting = iter(tasks)
    crew: dict[Connection, tuple[Any, Task]] = {}

    def start(task: Task) -> None:
        here, there = context.Pipe()
        process = context.Process(target=_work, args=(there, make_job, arguments, limit), daemon=True)
        process.start()
        there.close()
        crew[here] = process, task
        _send(here, task)

    try:
        for _ in range(workers):
            if (task := next(waiting, None)) is not None:
                start(task)
        while crew:
            for connection in wait(list(crew)):
                assert isinstance(connection, Connection)
                process, task = crew.pop(connection)
                try:
                    kind, value = connection.recv()
                except (EOFError, OSError):
                    connection.close()
                    process.join()
                    if (following := next(waiting, None)) is not None:
                        start(following)
                    yield task[0], None, _cause(process.exitcode, limit)
                    continue
                if kind == "error":
                    raise RuntimeError(value)
                if (following := next(waiting, None)) is not None:
                    crew[connection] = process, following
                    _send(connection, following)
                else:
                    connection.close()
                yield task[0], value, ""
    finally:
        for connection, (process, _) in crew.items():
            process.kill()
            process.join()
            connection.close()


def usable_cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _send(connection: Connection, task: Task) -> None:
    with contextlib.suppress(OSError):  # it died between two clips: wait sees the pipe's end
        connection.send(task[1])


def _work(
    connection: Connection, make_job: Callable[..., Job], arguments: tuple[Any, ...], limit: float
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    # What C libraries print about a broken file would tear the progress bar; reasons go by the pipe.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        job = make_job(*arguments)
        while True:
            task = connection.recv()
            signal.setitimer(signal.ITIMER_REAL, limit)
            result = job(task)
            signal.setitimer(signal.ITIMER_REAL, 0)
            connection.send(("done", result))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone, or has no more clips
    except Exception as error:
        connection.send(("error", f"{type(error).__name__}: {error}"))


def _cause(exitcode: int | None, limit: float) -> str:
    if exitcode == -signal.SIGALRM:
        return f"decoder hung for more than {limit:g} s"
    if exitcode is not None and exitcode < 0:
        return f"decoder crashed ({signal.Signals(-exitcode).name})"
    return f"decoder crashed (exit code {exitcode})"
