"""Write README.md's table of commands from the app; with --check, fail if what is there differs."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
START, END = "<!-- reference:start -->", "<!-- reference:end -->"


def table() -> str:
    """Return a row a command: usage, what it does, what stdout gets; from its docstring's first line."""
    from mgap_cli.app import app

    group = typer.main.get_command(app)
    rows = ["| command | what it does | stdout gets |", "|---|---|---|"]
    for name, command in group.commands.items():
        context = command.make_context(name, [], resilient_parsing=True)
        arguments = [piece for piece in command.collect_usage_pieces(context) if piece != "[OPTIONS]"]
        usage = " ".join(["mgap", name, *(a.upper() for a in arguments)])
        summary = " ".join(command.help.split("\n\n")[0].split()).rstrip(".")
        does, _, prints = summary.partition("; prints ")
        rows.append(f"| `{usage}` | {does} | {prints or 'tables'} |")
    return "\n".join(rows)


def main() -> None:
    text = README.read_text(encoding="utf-8")
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        sys.exit(f"README.md: lacks {START} and {END}")
    new = f"{before}{START}\n{table()}\n{END}{after}"
    if "--check" not in sys.argv[1:]:
        README.write_text(new, encoding="utf-8")
    elif new != text:
        sys.exit("README.md: its table of commands has drifted; run: python .ci/reference.py")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
