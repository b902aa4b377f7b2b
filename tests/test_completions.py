"""The scripts in completions/ are up to date, and bash completes with them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.program import shim

ROOT = Path(__file__).resolve().parents[1]


def test_the_scripts_have_not_drifted():
    done = subprocess.run([sys.executable, ".ci/completions.py", "--check"], cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_zsh_finds_its_directive_in_the_first_line():
    assert (ROOT / "completions" / "_mgap").read_text().startswith("#compdef mgap\n")


def complete(tmp_path: Path, *words: str) -> list[str]:
    """Return the completions that bash offers for the last word of a line."""
    line = " ".join(f"'{word}'" for word in words)
    code = f"""
        source '{ROOT}/completions/mgap.bash'
        complete -p mgap
        COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}
        "$(complete -p mgap | sed 's/.*-F \\([^ ]*\\) .*/\\1/')" mgap '{words[-1]}' '{words[-2]}'
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    env = {**os.environ, "PATH": f"{shim(tmp_path)}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-eu", "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.splitlines()[1:]


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_bash_completes(tmp_path):
    assert complete(tmp_path, "mgap", "wa") == ["warmup"]
    assert set(complete(tmp_path, "mgap", "")) == {
        "prepare", "inspect", "train", "warmup", "analyze-gap", "adapt", "evaluate", "export", "report",
        "run", "list", "docs", "compare", "doctor",
    }  # fmt: skip
    assert complete(tmp_path, "mgap", "warmup", "--meth") == ["--method"]
    assert set(complete(tmp_path, "mgap", "warmup", "store", "--fusion", "")) == {
        "concat", "cosine", "sum", "film", "gated", "late-entropy", "late-mean",
        "late-probability", "late-scaled", "pool",
    }  # fmt: skip
    assert complete(tmp_path, "mgap", "adapt", "--stop-gradient", "l") == ["leading"]
