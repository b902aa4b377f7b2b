"""The page of a run folder, written beside its files or where it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mgap_cli.files import ensure_output_allowed, write_text_once

if TYPE_CHECKING:
    from mgap_cli.report.page.run_page import RunReport


def write_page(run: Path, store: Path | None, path: Path | None = None) -> tuple[Path, RunReport]:
    """Write the page of a run folder, by default RUN/report.html; return its path and what was built.

    store: the data, if not where the checkpoints say. Raises UnfitError for a folder that has nothing of a
    run or damaged files, and UsageError where the page would replace a file of the run.
    """
    from mgap_cli.report.page.run_page import RunReport
    from mgap_cli.runs.reader import RunFolder

    folder = RunFolder(run, store)
    target = path or run / "report.html"
    ensure_output_allowed(target, (file for file in run.iterdir() if file.suffix != ".html"))
    made = RunReport(folder)
    write_text_once(target, made.html())
    return target, made
