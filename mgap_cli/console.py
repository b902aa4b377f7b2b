"""One sink for everything a command says: the result on stdout, all else on stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import RenderableType

HEARTBEAT_SECONDS = 30.0


class Ticker(Protocol):
    """What a loop calls as it goes: `done` units of the total are finished, `note` says how it stands."""

    def __call__(self, done: int, note: str = "") -> None: ...


@dataclass(frozen=True)
class Sink:
    """Where a command's words go. `json`: stdout carries one JSON document and nothing else."""

    json: bool = False
    quiet: bool = False

    def result(self, document: dict[str, Any], *shown: RenderableType | Path) -> None:
        """Print the command's result: the document with `--json`, else what is `shown`."""
        if self.json:
            print(json.dumps(document, indent=2, allow_nan=False))
            return
        from rich.console import Console

        console = Console(soft_wrap=False)
        for item in shown:
            if isinstance(item, Path):
                print(item)
            else:
                console.print(item)
        sys.stdout.flush()

    def log(self, message: str) -> None:
        """Tell the user something, unless `--quiet`."""
        if not self.quiet:
            print(message, file=sys.stderr, flush=True)

    def warn(self, message: str) -> None:
        print(f"warning: {message}", file=sys.stderr, flush=True)

    @contextmanager
    def progress(self, title: str, total: int, unit: str, done: int = 0) -> Iterator[Ticker]:
        """Show a bar with rate and time left at a terminal, a line every 30 s elsewhere.

        `done` units were finished by an earlier run and do not count in the rate.
        """
        if self.quiet:
            yield lambda done, note="": None
        elif _plain():
            yield _Heartbeat(self, title, total, unit, done)
        else:
            with _bar(title, total, unit, done) as tick:
                yield tick


class _Heartbeat:
    def __init__(self, sink: Sink, title: str, total: int, unit: str, done: int) -> None:
        self.sink, self.title, self.total, self.unit, self.first = sink, title, total, unit, done
        self.start = self.last = time.monotonic()

    def __call__(self, done: int, note: str = "") -> None:
        now = time.monotonic()
        if now - self.last < HEARTBEAT_SECONDS:
            return
        self.last = now
        rate = (done - self.first) / (now - self.start)
        left = f", {_duration((self.total - done) / rate)} left" if rate > 0 else ""
        extra = f", {note}" if note else ""
        self.sink.log(f"{self.title}: {done}/{self.total} {self.unit}, {rate:.1f} {self.unit}/s{left}{extra}")


@contextmanager
def _bar(title: str, total: int, unit: str, first: int) -> Iterator[Ticker]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    start = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total, completed=first, rate="", note="")

        def tick(done: int, note: str = "") -> None:
            rate = (done - first) / max(time.monotonic() - start, 1e-9)
            progress.update(task, completed=done, rate=f"{rate:.1f} {unit}/s", note=note)

        yield tick


def _plain() -> bool:
    return not sys.stderr.isatty() or "NO_COLOR" in os.environ or "CI" in os.environ


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
