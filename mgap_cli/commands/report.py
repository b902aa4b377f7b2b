"""`mgap report`: write a run folder as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mgap_cli.commands import _options as options
from mgap_cli.output import Output


def report(
    run: Annotated[
        Path,
        typer.Argument(help="The folder of mgap run, train or warmup; or of compare.", show_default=False),
    ],
    output: options.Page = None,
    store: options.StoreOption = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write one HTML file with everything about a run, or about a comparison; prints its path.

    It shows the results in the folder, and for a missing result the command that makes it. No network runs.
    The run may still be in progress.
    """
    from mgap_cli.report.documents import path_document
    from mgap_cli.workflow import run_page
    from mgap_cli.workflow.comparison import is_results_folder, open_comparison
    from mgap_cli.workflow.comparison_views import write_page

    sink = Output(json, quiet)
    if is_results_folder(run):
        made_page = write_page(open_comparison(run), run, path=output)
        sink.result(path_document("report", made_page, run=str(run), verdict=[], missing=[]), made_page)
        return
    path, made = run_page.write_page(run, store, output)
    for section in made.missing:
        sink.log(f"not in the report: {section} (the section gives the reason)")
    sink.result(path_document("report", path, run=str(run), verdict=made.verdict, missing=made.missing), path)
