"""Imbalance by other measures, beside the gap."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType

from mgap_cli.analysis.measures.measure import Measure
from mgap_cli.report.layout import add_numbers, confidence_level, new_table, printable, titled


def measures_table(
    measures: Sequence[Measure], modalities: tuple[str, str], confidence: float, split: str = ""
) -> RenderableType:
    """Return the value of each measure for both modalities, their comparison and the leading modality."""
    first, second = map(printable, modalities)
    table = new_table()
    table.add_column("measure")
    add_numbers(table, first, second, "- or /", f"{confidence_level(confidence)}\ninterval")
    table.add_column("leads", no_wrap=True)
    add_numbers(table, "n", "src")
    sources = list(dict.fromkeys(m.source for m in measures))
    for m in measures:
        scale, digits = (100, 1) if m.percent else (1, 3)
        sign = "+" if m.statistic == "difference" else "/"

        def formatted(value: float | None, sign: str = "", scale: int = scale, digits: int = digits) -> str:
            if value is None:
                return "-"
            if sign == "/":
                return f"/ {value:.{digits}f}"
            return f"{scale * value:{sign}.{digits}f}"

        interval = "-"
        if m.interval:
            mark = "+" if sign == "+" else ""
            interval = f"{formatted(m.interval.low, mark)}, {formatted(m.interval.high, mark)}"
        leads = {"first": first, "second": second, None: "none" if m.interval else "-"}[m.leader]
        name = m.name + (", %" if m.percent else "")
        count = f"{m.n} b" if m.units == "batches" else str(m.n)
        row = (formatted(m.first), formatted(m.second), formatted(m.value, sign), interval, leads, count)
        table.add_row(name, *row, f"[{sources.index(m.source) + 1}]")
    where = f", {printable(split)}" if split else ""
    notes = [
        f"+/-: {first} minus {second}; /: their ratio, with its interval. None leads where that holds "
        "equality; for entropy share and probe gap the smaller leads. n: samples, or batches (b).",
        "; ".join(f"[{i}] {source}" for i, source in enumerate(sources, 1)) + ".",
    ]
    return titled(f"Imbalance by other measures{where}", table, *notes)
