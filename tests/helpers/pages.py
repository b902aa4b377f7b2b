"""The README and the pages of mgap_cli/docs, as text."""

from __future__ import annotations

from helpers.program import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    "README": README,
    **{path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "mgap_cli/docs").glob("*.md"))},
}
