"""`mgap docs`: the pages of the documentation, in the terminal."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mgap_cli import docs as documentation
from mgap_cli.commands import _options as options
from mgap_cli.output import Output
from mgap_cli.report.schemas import schema


def docs(
    topic: Annotated[
        str | None,
        typer.Argument(
            help="The page to show. Without it, the command lists all pages.",
            show_default=False,
            autocompletion=lambda: [page.topic for page in documentation.pages()],
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Show a page of the documentation in the terminal, or list all pages; prints text."""
    from mgap_cli.report.markdown import WholeMarkdown
    from mgap_cli.report.tables.choices import choices_table

    document: dict[str, Any] = {"schema": schema("docs")}
    if topic is None:
        rows = [(page.topic, page.summary) for page in documentation.pages()]
        document["pages"] = [{"topic": name, "summary": summary} for name, summary in rows]
        Output(json).result(document, choices_table(("topic", "summary"), rows))
    else:
        page = documentation.page(topic)
        document |= {"topic": topic, "text": page.text}
        Output(json).result(document, WholeMarkdown(page.terminal_text(), hyperlinks=False))
