"""Write the page of a run folder, beside its files or at a given path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mgap_cli.files import ensure_output_allowed, write_text_once

if TYPE_CHECKING:
    from mgap_cli.report.page.run_page import RunReport


def write_page(run: Path, store: Path | None, path: Path | None = None) -> tuple[Path, RunReport]:
    """Write the page of a run folder, by default RUN/report.html; return its path and the page.

    store: the folder of the data, if it is not the one that the checkpoints name. Raises UnfitError for a
    folder without files of a run or with damaged files, and UsageError if the page would replace a file of
    the run.
    """
    from mgap_cli.report.page.run_page import RunReport
    from mgap_cli.runs.reader import RunFolder

    folder = RunFolder(run, store)
    target = path or run / "report.html"
    ensure_output_allowed(target, (file for file in run.iterdir() if file.suffix != ".html"))
    made = RunReport(folder)
    write_text_once(target, made.html())
    return target, made
