"""The one place that prints: results on stdout, everything else on stderr.

Names from outside (labels, column names, paths, settings) may contain any character, also escape sequences.
All printed text passes `printable` or `printable_lines` here, so that no caller can forget it. rich never
reads it as markup.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

HEARTBEAT_SECONDS = 30.0
LONGEST_MESSAGE = 4_000  # characters; a longer message is cut

# Characters that steer a terminal or hide what is printed: controls (C0, DEL, C1), line and paragraph
# separators, marks and overrides of the writing direction, invisible format characters, lone surrogates.
# The joiners U+200C and U+200D are kept, because Persian and emoji need them.
_STEERING = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def printable(text: str) -> str:
    """Return `text` on one line; characters that steer a terminal become escapes, such as \\x1b."""
    return _STEERING.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def printable_lines(text: str) -> str:
    """Return `text` as `printable` does, but keep its line breaks."""
    return "\n".join(map(printable, text.split("\n")))


def listed(words: Sequence[str]) -> str:
    """Return one or more words as a list in a sentence: `a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def say(text: str, stream: TextIO | None = None) -> None:
    """Print `text` as one line on stderr (or `stream`), whatever characters it has."""
    line = printable(text)
    if len(line) > LONGEST_MESSAGE:
        line = line[: LONGEST_MESSAGE - 3] + "..."
    print(line, file=stream or sys.stderr, flush=True)


def open_missing_streams() -> None:
    """Connect standard streams that the caller has closed (`2>&-`) to the null device.

    Without this, the next file that is opened would get the number of the closed stream, and libraries would
    write their messages into that file. From then on, characters that the terminal's encoding lacks are
    printed as escapes.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, number)  # inheritable, unlike what os.open returns
            if null != number:
                os.close(null)
        if getattr(sys, name) is None:
            stream = open(number, "r" if name == "stdin" else "w", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
    for written in (sys.stdout, sys.stderr):
        if isinstance(written, io.TextIOWrapper):
            written.reconfigure(errors="backslashreplace")


class Ticker(Protocol):
    """Shows the progress of a loop: `done` units of the total are finished, `note` describes its state."""

    def __call__(self, done: int, note: str = "") -> None: ...


@dataclass(frozen=True)
class Output:
    """The output of one command. `json`: stdout gets one JSON document and nothing else."""

    json: bool = False
    quiet: bool = False

    def result(self, document: dict[str, Any], *items: RenderableType | Path) -> None:
        """Print the command's result: the document with `--json`, otherwise `items`.

        A string is printed as it is, a path on one line, and anything else with rich's layout.
        """
        if self.json:
            text = json.dumps(document, indent=2, allow_nan=False)
            print(text.replace("\x7f", "\\u007f"))  # the one control character that JSON does not escape
        for item in () if self.json else items:
            if isinstance(item, Path):
                print(printable(str(item)))
            elif isinstance(item, str):
                print(printable_lines(item))
            else:
                _print_rich(item)
        sys.stdout.flush()

    def log(self, message: str) -> None:
        """Print a message on stderr, unless `--quiet`."""
        if not self.quiet:
            say(message)

    def warn(self, message: str) -> None:
        say(f"warning: {message}")

    @contextmanager
    def progress(self, title: str, total: int, unit: str, done: int = 0) -> Iterator[Ticker]:
        """Show a bar with rate and remaining time at a terminal; elsewhere print one line every 30 s.

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
    def __init__(self, sink: Output, title: str, total: int, unit: str, done: int) -> None:
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


def _console(*, stderr: bool = False) -> Console:
    """Return a console that prints brackets and colons as they are, not as markup or emoji."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False)


def _print_rich(item: RenderableType) -> None:
    """Print an object with rich's layout; keep its colours, but escape control characters in its text."""
    from rich.segment import Segments

    console = _console()
    laid_out = console.render(item)
    safe = (s if s.control else s._replace(text=printable_lines(s.text)) for s in laid_out)
    console.print(Segments(safe), end="")


@contextmanager
def _bar(title: str, total: int, unit: str, first: int) -> Iterator[Ticker]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    start = time.monotonic()
    with Progress(*columns, console=_console(stderr=True), transient=True) as progress:
        task = progress.add_task(printable(title), total=total, completed=first, rate="", note="")

        def tick(done: int, note: str = "") -> None:
            rate = (done - first) / max(time.monotonic() - start, 1e-9)
            progress.update(task, completed=done, rate=f"{rate:.1f} {unit}/s", note=printable(note))

        yield tick


def _plain() -> bool:
    return not sys.stderr.isatty() or "NO_COLOR" in os.environ or "CI" in os.environ


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
