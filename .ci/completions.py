"""Write completions/ from the program itself; with --check, fail if what is there differs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = {"bash": "mgap.bash", "zsh": "_mgap", "fish": "mgap.fish"}

# Typer's zsh script only registers itself. A file on zsh's fpath is run in place of the completion that
# it defines, so the first TAB would do nothing.
ZSH_REGISTER = "compdef _mgap_completion mgap"
ZSH_CALL_OR_REGISTER = f"""if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _mgap_completion "$@"
else
  {ZSH_REGISTER}
fi"""


def script(shell: str) -> str:
    """Return the completion script that `mgap` prints for a shell."""
    done = subprocess.run(
        [sys.executable, "-m", "mgap_cli"],
        env={**os.environ, "_MGAP_COMPLETE": f"source_{shell}"},
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    text = done.stdout.strip() + "\n"
    if shell == "zsh":
        head, register, tail = text.rpartition(ZSH_REGISTER)
        assert register, "Typer's zsh script no longer ends as expected"
        text = head + ZSH_CALL_OR_REGISTER + tail
    return text


def main() -> None:
    drifted = []
    for shell, name in FILES.items():
        path, text = ROOT / "completions" / name, script(shell)
        if "--check" not in sys.argv[1:]:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            drifted.append(f"completions/{name}")
    if drifted:
        sys.exit(f"{', '.join(drifted)}: not what mgap prints; run: python .ci/completions.py")


if __name__ == "__main__":
    main()
