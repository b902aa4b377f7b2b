"""`mgap doctor` reports what a machine lacks, even if packages are broken, and leaves no files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.program import ROOT, listing, mgap

from mgap_cli.workflow.doctor import machine_checks

METADATA = "Metadata-Version: 2.1\nName: soxr\nVersion: 0.1\n"


def doctor_with(packages: Path, *args: object) -> subprocess.CompletedProcess[str]:
    """Run `mgap doctor` in a fresh process that finds the modules in `packages` before all others."""
    env = {**os.environ, "PYTHONPATH": f"{packages}{os.pathsep}{ROOT}"}
    line = [sys.executable, "-m", "mgap_cli", "doctor", *map(str, args)]
    return subprocess.run(line, env=env, cwd=packages, capture_output=True, text=True, timeout=300)


def lines_of(text: str) -> dict[str, str]:
    """Return the line of each check, by its name."""
    return {line[9:22].strip(): line for line in text.splitlines()}


def states(text: str) -> dict[str, str]:
    """Return the state of each check, by its name."""
    return {name: line.split()[0] for name, line in lines_of(text).items()}


def test_a_line_per_check_and_nothing_left_behind(tmp_path):
    done = mgap("doctor", tmp_path, "--json")
    document = done.json()
    checks = {check["name"]: check for check in document["checks"]}
    assert document["schema"] == "mgap.doctor/1" and len(checks) == len(document["checks"])
    assert done.code == (1 if document["broken"] else 0)
    assert document["broken"] == [name for name, check in checks.items() if check["state"] == "broken"]
    assert checks["file locks"]["state"] == checks["writing"]["state"] == checks["python"]["state"] == "ok"
    for name in ("torch", "numpy", "CUDA", "NCCL", "MPS", "cores", "memory", "disk", "wandb", "decode .flv"):
        assert checks[name]["text"]
    assert not listing(tmp_path)


def test_a_folder_that_does_not_exist_is_not_created(tmp_path):
    checks = {c["name"]: c for c in mgap("doctor", tmp_path / "a" / "b", "--json").json()["checks"]}
    assert checks["disk"]["text"].endswith(f" free in {tmp_path.resolve()}")
    assert not listing(tmp_path)


def test_wrong_versions_and_a_damaged_decoder_are_named(tmp_path):
    (tmp_path / "soxr-0.1.dist-info").mkdir()
    (tmp_path / "soxr-0.1.dist-info" / "METADATA").write_text(METADATA)
    (tmp_path / "decord").mkdir()
    (tmp_path / "decord" / "__init__.py").write_text("raise OSError('libdecord.so is damaged')\n")
    done = doctor_with(tmp_path, tmp_path)
    assert done.returncode == 1
    lines, state = lines_of(done.stdout), states(done.stdout)
    assert re.match(r"broken +soxr +0\.1, but mgap needs >=0\.4\. Run: python -m pip install", lines["soxr"])
    assert "libdecord.so is damaged" in lines["decord"] and "libdecord.so is damaged" in lines["decode .mp4"]
    assert state["decord"] == state["decode .mp4"] == state["decode .flv"] == "broken"
    assert state["numpy"] == "ok"
    assert "soxr, decord, decode .mp4" in done.stderr and "Traceback" not in done.stderr


def test_it_works_without_a_working_torch(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('libtorch_cpu.so: no such file')\n")
    done = doctor_with(tmp_path, tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    state = states(done.stdout)
    assert state["torch"] == "broken" and state["CUDA"] == state["NCCL"] == "warning"
    assert state["numpy"] == state["writing"] == state["file locks"] == "ok"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="/proc is the folder that nobody can write")
def test_a_folder_that_cannot_be_written_is_broken():
    done = mgap("doctor", "/proc")
    assert done.code == 1 and states(done.out)["writing"] == "broken"
    assert "Name a folder that you may write" in done.out


def test_a_file_system_that_locks_nothing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(machine_checks.fcntl, "flock", lambda file, operation: None)
    checks = {check.name: check for check in machine_checks.machine_checks(tmp_path)}
    assert checks["file locks"].state == "warning" and "only one command" in checks["file locks"].hint


def test_it_is_not_for_torchrun(tmp_path):
    env = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    assert mgap("doctor", tmp_path, env=env).code == 2
