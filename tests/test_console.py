"""The result on stdout, all else on stderr."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from rich.table import Table

from mgap_cli import console
from mgap_cli.console import HEARTBEAT_SECONDS, Sink

DOCUMENT = {"schema": "test/1", "name": "zwölf", "value": 0.5}


def table() -> Table:
    made = Table("column")
    made.add_row("cell")
    return made


def test_a_path_is_printed_bare(capsys):
    long = Path("/a folder") / ("x" * 300)
    Sink().result(DOCUMENT, long)
    assert capsys.readouterr() == (f"{long}\n", "")


def test_a_table_is_shown_without_colour_codes_off_a_terminal(capsys):
    Sink().result(DOCUMENT, table())
    out, err = capsys.readouterr()
    assert "column" in out
    assert "cell" in out
    assert "\x1b" not in out
    assert err == ""


def test_json_is_exactly_one_document(capsys):
    sink = Sink(json=True)
    sink.log("a log line")
    sink.warn("a warning")
    sink.result(DOCUMENT, table(), Path("x"))
    out, err = capsys.readouterr()
    assert json.loads(out) == DOCUMENT
    assert err == "a log line\nwarning: a warning\n"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_json_refuses_what_json_has_not(bad, capsys):
    with pytest.raises(ValueError, match="JSON"):
        Sink(json=True).result({"a": bad})
    assert capsys.readouterr().out == ""


def test_quiet_keeps_warnings_and_the_result(capsys):
    sink = Sink(quiet=True)
    sink.log("a log line")
    sink.warn("a warning")
    with sink.progress("train", 10, "steps") as tick:
        tick(5)
    sink.result(DOCUMENT, Path("x"))
    assert capsys.readouterr() == ("x\n", "warning: a warning\n")


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(console, "time", made)
    return made


def test_off_a_terminal_a_line_every_thirty_seconds(clock, capsys):
    with Sink().progress("warmup", 1000, "steps") as tick:
        for done in range(91):  # a step a second
            tick(done, "loss 0.5")
            clock.now += 1
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 90 // HEARTBEAT_SECONDS
    assert lines[0] == "warmup: 30/1000 steps, 1.0 steps/s, 16:10 left, loss 0.5"


def test_work_of_an_earlier_run_does_not_count_in_the_rate(clock, capsys):
    with Sink().progress("warmup", 1000, "steps", done=900) as tick:
        clock.now += 40
        tick(920)
    assert capsys.readouterr().err == "warmup: 920/1000 steps, 0.5 steps/s, 2:40 left\n"


def test_no_progress_is_no_division_by_zero(clock, capsys):
    with Sink().progress("warmup", 10, "steps") as tick:
        clock.now += 40
        tick(0)
    assert capsys.readouterr().err == "warmup: 0/10 steps, 0.0 steps/s\n"


@pytest.mark.parametrize("variable", ["NO_COLOR", "CI", None])
def test_bars_are_for_terminals(variable, monkeypatch, capsys):
    for name in ("NO_COLOR", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    if variable:
        monkeypatch.setenv(variable, "1")
    with Sink().progress("warmup", 10, "steps") as tick:
        tick(5)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("warmup" in err) == (variable is None)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.9, "0:59"), (61, "1:01"), (3600, "1:00:00"), (7325, "2:02:05")]
)
def test_durations(seconds, text):
    assert console._duration(seconds) == text
