"""A run folder is recognised as locked without taking its lock."""

from __future__ import annotations

from mgap_cli.output import Output
from mgap_cli.runs.layout import LOCK_NAME
from mgap_cli.runs.lock import is_locked, run_lock


def test_a_folder_is_locked_while_its_lock_is_held(tmp_path):
    run = tmp_path / "run"
    assert not is_locked(run)
    with run_lock(run, Output(quiet=True)):
        assert is_locked(run) and is_locked(run)
        (run / "config.yaml").touch()
    assert not is_locked(run)


def test_a_file_of_a_killed_process_is_not_a_lock(tmp_path):
    (tmp_path / LOCK_NAME).write_text("{}")
    assert not is_locked(tmp_path)
    with run_lock(tmp_path, Output(quiet=True)):
        assert is_locked(tmp_path)
