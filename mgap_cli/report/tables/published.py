"""Published accuracies on a data set, each with the reasons why it is not comparable with ours."""

from __future__ import annotations

from rich.console import RenderableType

from mgap_cli.comparison.published import published_on
from mgap_cli.report.layout import add_numbers, new_table, titled, verbatim


def published_table(dataset: str, n: int) -> RenderableType | None:
    """Return the published accuracies on a data set, or None; n: number of test samples of our results."""
    rows = published_on(dataset)
    if not rows:
        return None
    table = new_table()
    table.add_column("published")
    add_numbers(table, "accuracy\n%", "n")
    table.add_column("compares with ours", overflow="fold")
    table.add_column("source", overflow="fold")
    for row in rows:
        source = f"{row.source}{' (secondary)' if row.secondary else ''}"
        compares = "; ".join(row.obstacles(n))
        table.add_row(
            verbatim(row.method),
            f"{row.value:.2f}",
            "-" if row.n is None else str(row.n),
            verbatim(f"no: {compares}" if compares else "yes"),
            verbatim(f"{source}: {row.protocol}"),
        )
    notes = (
        "Ours: the whole test set, the epoch chosen on validation.",
        "secondary: the source is not the method's own paper or program.",
    )
    return titled(f"Published accuracies on {dataset}", table, *notes)
