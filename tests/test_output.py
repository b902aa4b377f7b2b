"""The result goes to stdout, and everything else to stderr."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.program import ROOT, STEERING, call, sets
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Group
from rich.table import Table
from rich.text import Text

from mgap_cli import output
from mgap_cli.output import HEARTBEAT_SECONDS, Output, printable, say

DOCUMENT = {"schema": "test/1", "name": "zwölf", "value": 0.5}


def table() -> Table:
    made = Table("column")
    made.add_row("cell")
    return made


def test_a_path_is_printed_bare(capsys):
    long = Path("/a folder") / ("x" * 300)
    Output().result(DOCUMENT, long)
    assert capsys.readouterr() == (f"{long}\n", "")


def test_a_table_is_shown_without_colour_codes_off_a_terminal(capsys):
    Output().result(DOCUMENT, table())
    out, err = capsys.readouterr()
    assert "column" in out
    assert "cell" in out
    assert "\x1b" not in out
    assert err == ""


def test_json_is_exactly_one_document(capsys):
    sink = Output(json=True)
    sink.log("a log line")
    sink.warn("a warning")
    sink.result(DOCUMENT, table(), Path("x"))
    out, err = capsys.readouterr()
    assert json.loads(out) == DOCUMENT
    assert err == "a log line\nwarning: a warning\n"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_json_refuses_what_json_has_not(bad, capsys):
    with pytest.raises(ValueError, match="JSON"):
        Output(json=True).result({"a": bad})
    assert capsys.readouterr().out == ""


def test_quiet_keeps_warnings_and_the_result(capsys):
    sink = Output(quiet=True)
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
    monkeypatch.setattr(output, "time", made)
    return made


def test_off_a_terminal_a_line_every_thirty_seconds(clock, capsys):
    with Output().progress("warmup", 1000, "steps") as tick:
        for done in range(91):  # one step per second
            tick(done, "loss 0.5")
            clock.now += 1
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 90 // HEARTBEAT_SECONDS
    assert lines[0] == "warmup: 30/1000 steps, 1.0 steps/s, 16:10 left, loss 0.5"


def test_work_of_an_earlier_run_does_not_count_in_the_rate(clock, capsys):
    with Output().progress("warmup", 1000, "steps", done=900) as tick:
        clock.now += 40
        tick(920)
    assert capsys.readouterr().err == "warmup: 920/1000 steps, 0.5 steps/s, 2:40 left\n"


def test_no_progress_does_not_divide_by_zero(clock, capsys):
    with Output().progress("warmup", 10, "steps") as tick:
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
    with Output().progress("warmup", 10, "steps") as tick:
        tick(5)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("warmup" in err) == (variable is None)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.9, "0:59"), (61, "1:01"), (3600, "1:00:00"), (7325, "2:02:05")]
)
def test_durations(seconds, text):
    assert output._duration(seconds) == text


# --- text from outside

HOSTILE = "p_[/x]\x1b[31m\x1b]0;title\x07\x9b2J\u202eevil\nerror: forged\r[bold]:smile:\x7f"


def seen(text: str) -> str:
    """The text without its layout."""
    assert not STEERING.search(text), ascii(text)
    return text


def test_messages_are_one_line_without_control_characters(capsys):
    sink = Output()
    sink.log(HOSTILE)
    sink.warn(HOSTILE)
    out, err = capsys.readouterr()
    assert out == ""
    assert len(seen(err).splitlines()) == 2
    assert r"p_[/x]\x1b[31m\x1b]0;title\x07\x9b2J\u202eevil\nerror: forged\r[bold]:smile:\x7f" in err


@pytest.mark.parametrize(
    "make",
    [lambda text: text, lambda text: Text(text), lambda text: Group(text, Text(text))],
    ids=["string", "text", "group"],
)
def test_no_table_prints_control_characters_or_reads_markup(make, capsys, monkeypatch):
    """This holds even if a caller forgot to escape a name."""
    monkeypatch.setenv("COLUMNS", "300")
    made = Table(title=HOSTILE)
    made.add_column(HOSTILE)
    made.add_row(make(HOSTILE), HOSTILE)
    Output().result(DOCUMENT, made, HOSTILE, make(HOSTILE))
    out = seen(capsys.readouterr().out)
    assert out.count("[/x]") >= 6 and out.count("[bold]:smile:") >= 6 and r"\x1b[31m" in out


def test_a_path_is_one_line_and_json_has_it_exactly(capsys):
    Output().result(DOCUMENT, Path("a\nb\x1b[0m\udcff"))
    assert capsys.readouterr().out == "a\\nb\\x1b[0m\\udcff\n"
    Output(json=True).result({"path": "a\nb\x1b[0m\udcff\x7f"})
    out = capsys.readouterr().out
    assert "\x7f" not in out and json.loads(out) == {"path": "a\nb\x1b[0m\udcff\x7f"}


def test_the_progress_bar_escapes_its_title_and_note(monkeypatch, capsys):
    for name in ("NO_COLOR", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Output().progress("train [/x]\x9b2J", 10, "steps") as tick:
        tick(5, "note [/y]\x07")
    err = capsys.readouterr().err
    assert "[/x]" in err and "\x9b" not in err and "\x07" not in err


@given(st.text(st.characters()))
def test_printable_leaves_one_line_and_keeps_ordinary_text(text):
    line = printable(text)
    assert not STEERING.search(line) and len(line.splitlines()) <= 1
    line.encode()  # no lone surrogates either
    if text.isprintable():
        assert line == text


@pytest.mark.parametrize("text", ["zwölf", "日本語", "می\u200cخواهم", "👩\u200d🔬", "a b", "C:\\new"])
def test_ordinary_names_are_not_changed(text):
    assert printable(text) == text


def test_a_huge_message_is_cut(capsys):
    say("x" * 10**6)
    assert len(capsys.readouterr().err) < 5_000


# --- streams

SCORES = "id,label,p_audio,p_visual\n" + "".join(f"{i},{i % 2},.{i},.5\n" for i in range(10, 60))


def shell(line: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a line of sh, in which $MGAP is the program."""
    program = f"'{sys.executable}' -m mgap_cli"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    code = line.replace("$MGAP", program)
    return subprocess.run(["sh", "-c", code], cwd=cwd, env=environment, capture_output=True, text=True)


def test_closed_stderr_does_not_send_messages_to_stdout(tmp_path):
    assert shell('x=$($MGAP inspect none 2>&-); echo "$? [$x]"', tmp_path).stdout == "3 []\n"
    scores = tmp_path / "s.csv"
    scores.write_text(
        "id,label,p_audio,p_visual\n" + "".join(f"{i},{i % 2},.{i},.5\n" for i in range(10, 60))
    )
    line = "$MGAP analyze-gap s.csv --json --set analysis.resamples=9 2>&-"
    done = shell(line, tmp_path)
    assert done.returncode == 0 and json.loads(done.stdout)["schema"]
    done = shell(f"{line} >&- <&-", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_closed_stdout_leaves_messages_on_stderr(tmp_path):
    done = shell("$MGAP inspect none >&-", tmp_path)
    assert done.returncode == 3 and done.stderr.startswith("error: none: ")


def test_a_file_never_gets_the_number_of_a_closed_stream(tmp_path):
    program = (
        "import sys, os; from mgap_cli.output import open_missing_streams; open_missing_streams(); "
        "f = open('mine', 'w'); os.write(2, b'library'); os.write(1, b'library'); print('gone'); "
        "f.write(str(f.fileno())); f.close(); os.close(2)"
    )
    line = f"'{sys.executable}' -c \"{program}\" <&- >&- 2>&-"
    done = shell(line, tmp_path)
    assert done.returncode == 0 and int((tmp_path / "mine").read_text()) > 2


def test_a_terminal_that_lacks_a_character_shows_its_escape(tmp_path):
    done = shell("$MGAP inspect zwölf 1>&2", tmp_path, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 3 and r"zw\xf6lf" in done.stderr


# --- the command line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["warmup"], "Missing argument 'store'."),
        (["warmup", "x", "--nope"], "No such option: --nope"),
        (["warmup", "x", "--precision", "\x1b[31m\n"], "--precision"),
        (["wrmup\x1b"], "No such command"),
        (["analyze-gap", "x.csv", "--csv", ""], "--csv: the value is empty."),
        (["analyze-gap", "x.csv", "--csv="], "--csv: the value is empty."),
        (["warmup", ""], "an argument of mgap warmup: the value is empty."),
        (["warmup", "x", "-o", ""], "-o: the value is empty."),
    ],
)
def test_a_wrong_command_line_is_two_lines(words, said):
    done = call(*words)
    done.is_clean()
    assert done.code == 2 and said in done.err


def test_markup_in_names_and_headers_is_text(tmp_path):
    scores = tmp_path / "s.csv"
    header = "id,label,p_[/x],p_\x1b[31mv\u202e\n"
    scores.write_text(header + "".join(f"[/i]{i},[red]{i % 2},.{i},.5\n" for i in range(10, 60)))
    done = call("analyze-gap", scores, *sets("analysis.resamples=9"))
    assert done.code == 0, done.err
    assert "p([/x])" in seen(done.out) and r"\x1b[31mv" in done.out and "[red]1" in done.out


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ModuleNotFoundError("No module named 'sklearn'", name="sklearn"), "pip install scikit-learn"),
        (ModuleNotFoundError("No module named 'soxr'", name="soxr.x"), "pip install soxr"),
        (ImportError("libx.so: cannot open", name="torch"), "package torch cannot be loaded (libx.so"),
        (MemoryError(), "out of memory"),
    ],
)
def test_a_missing_package_is_named_and_not_reported_as_a_bug(error, said, monkeypatch):
    monkeypatch.setattr("mgap_cli.app.start", lambda: (_ for _ in ()).throw(error))
    done = call("inspect", "x")
    assert done.code == 1 and said in done.err and "bug" not in done.err and "Traceback" not in done.err


def test_a_bug_asks_for_a_report(monkeypatch):
    monkeypatch.setattr("mgap_cli.app.start", lambda: [][1])
    done = call("inspect", "x")
    assert done.code == 1
    assert done.err.splitlines() == [
        "error: internal error: IndexError: list index out of range",
        "  This is a bug in mgap. Run the command again as `mgap --debug ...` and report what it prints.",
    ]
    assert "Traceback" in call("--debug", "inspect", "x").err


def test_a_package_that_is_not_installed_in_a_real_process(tmp_path):
    (tmp_path / "yaml.py").write_text("raise ModuleNotFoundError(\"No module named 'yaml'\", name='yaml')")
    done = shell("$MGAP inspect x", tmp_path, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert done.returncode == 1 and "pip install pyyaml" in done.stderr and "Traceback" not in done.stderr


def test_a_nonsense_matplotlib_backend_does_not_matter(tmp_path):
    scores = tmp_path / "s.csv"
    scores.write_text(
        "id,label,p_audio,p_visual\n" + "".join(f"{i},{i % 2},.{i},.5\n" for i in range(10, 60))
    )
    line = "$MGAP analyze-gap s.csv --plot --set analysis.resamples=9"
    done = shell(line, tmp_path, MPLBACKEND="nonsense")
    assert done.returncode == 0 and (tmp_path / "s-gap.png").exists(), done.stderr


def test_a_nonsense_terminal_width_is_named():
    done = call("--help", env={"TERMINAL_WIDTH": "wide"})
    done.is_clean()
    assert done.code == 2 and "TERMINAL_WIDTH" in done.err


LAUNCHER = {
    "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "localhost", "MASTER_PORT": "29500",
}  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"WORLD_SIZE": "0"}, {"WORLD_SIZE": "-1"}, {"WORLD_SIZE": "9" * 5000}, {"WORLD_SIZE": "\x1b[31m"},
        {"RANK": "nonsense"}, {"LOCAL_RANK": "2"}, {"LOCAL_WORLD_SIZE": "3"},
        {"LOCAL_WORLD_SIZE": "0"}, {"MASTER_PORT": "99999"}, {"MASTER_ADDR": ""},
    ],
)  # fmt: skip
def test_a_launchers_environment_that_cannot_be(wrong):
    done = call("inspect", "x", env={**LAUNCHER, **wrong})
    done.is_clean()
    assert done.code == 2 and next(iter(wrong)) in done.err and "torchrun" in done.err
