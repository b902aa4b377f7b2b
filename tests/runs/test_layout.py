"""Files in a run folder are complete or absent."""

from __future__ import annotations

import ast
import errno
import json
import os
import platform
import shutil
import stat
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import mgap_cli
from mgap_cli.errors import ExitCode, MgapError
from mgap_cli.files import atomic_write, write_json, write_text
from mgap_cli.runs import layout
from mgap_cli.runs.layout import write_environment, write_status


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "run" / "result.json"


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_write_makes_its_folder_and_replaces_what_was_there(path):
    write_text(path, "one\n")
    write_text(path, "zwölf\n")
    assert path.read_bytes() == "zwölf\n".encode()
    assert names(path.parent) == [path.name]


def test_nothing_is_seen_before_the_end(path):
    write_text(path, "old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_old_content_and_no_litter(path, error):
    write_text(path, "old")
    with pytest.raises(error), atomic_write(path) as file:
        file.write(b"half")
        raise error
    assert path.read_text() == "old"
    assert names(path.parent) == [path.name]


def test_an_exception_in_a_first_write_leaves_nothing(path):
    with pytest.raises(RuntimeError), atomic_write(path):
        raise RuntimeError
    assert names(path.parent) == []


def test_a_full_disk_is_one_message(path):
    write_text(path, "old")
    reason = r"result\.json: cannot be written \(No space left"
    with pytest.raises(MgapError, match=reason) as caught, atomic_write(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.exit_code == ExitCode.FAILED
    assert "another place" in caught.value.hint
    assert path.read_text() == "old"
    assert names(path.parent) == [path.name]


def test_a_folder_that_cannot_be_made_is_one_message(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MgapError, match="cannot be written"):
        write_text(tmp_path / "file" / "result.json", "x")


def test_a_folder_in_the_files_place_is_one_message(path):
    path.mkdir(parents=True)
    with pytest.raises(MgapError, match="cannot be written"):
        write_text(path, "x")
    assert names(path.parent) == [path.name]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_one_message(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(MgapError, match="Permission denied"):
            write_text(tmp_path / "result.json", "x")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o007, 0o660)])
def test_files_are_shared_as_the_umask_says(path, umask, mode):
    before = os.umask(umask)
    try:
        write_text(path, "x")
        assert os.umask(umask) == umask  # left as it was
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), {"deep": [float("-inf")]}])
def test_json_has_no_nan(path, bad):
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": bad})
    assert json.loads(path.read_text()) == {"a": 1}


def test_status(tmp_path):
    write_status(tmp_path, "running", "warmup", 3, 14)
    status = json.loads((tmp_path / "status.json").read_text())
    written = datetime.fromisoformat(status.pop("time"))
    assert abs(written - datetime.now(timezone.utc)) < timedelta(minutes=10)
    assert (status.pop("host"), status.pop("pid")) == (platform.node(), os.getpid())
    assert status == {"state": "running", "stage": "warmup", "epoch": 3, "step": 14}


def test_environment(tmp_path):
    write_environment(tmp_path, {"device": "cpu"})
    environment = json.loads((tmp_path / "env.json").read_text())
    assert environment["device"] == "cpu"
    assert environment["command"] == sys.argv
    assert environment["versions"]["torch"].startswith("2.")
    assert environment["host"] == platform.node() and datetime.fromisoformat(environment["date"]).tzinfo


@pytest.mark.skipif(not shutil.which("git"), reason="there is no git")
def test_the_environment_names_the_commit_of_a_checkout(tmp_path, monkeypatch):
    def git(*words: str) -> str:
        line = ["git", "-C", str(tmp_path), "-c", "user.name=A", "-c", "user.email=a@example.org", *words]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()

    def commit() -> str | None:
        write_environment(tmp_path / "run", {})
        return json.loads((tmp_path / "run" / "env.json").read_text())["commit"]

    module = tmp_path / "mgap_cli" / "runs" / "layout.py"
    module.parent.mkdir(parents=True)
    module.touch()
    monkeypatch.setattr(layout, "__file__", str(module))
    assert commit() is None
    git("init", "-q")
    git("add", "mgap_cli")
    git("commit", "-q", "-m", "first")
    assert commit() == git("rev-parse", "HEAD")
    module.write_text("changed")
    assert commit() == git("rev-parse", "HEAD") + "+"


def test_the_tree_in_the_docstring_names_every_file_that_is_written():
    endings = (".json", ".jsonl", ".yaml", ".pt", ".csv", ".png")
    package = Path(mgap_cli.__file__).parent
    written = set()
    for module in [
        *(package / "runs").glob("*.py"),
        *(package / "training").glob("*.py"),
        *(package / "workflow").glob("*.py"),
        *(package / "commands").glob("*.py"),
    ]:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
                right = node.right
                if isinstance(right, ast.Constant) and str(right.value).endswith(endings):
                    written.add(right.value)
    assert {"config.yaml", "status.json", "env.json"} <= written
    assert {name for name in written if name not in (layout.__doc__ or "")} == set()
