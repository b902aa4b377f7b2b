"""`mgap list`: methods, data sets, presets, settings, measures, encoders, fusions and decision rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mgap_cli import config as configuration
from mgap_cli import methods
from mgap_cli.commands import _options as options
from mgap_cli.errors import UsageError, did_you_mean
from mgap_cli.output import Output
from mgap_cli.report.schemas import schema

if TYPE_CHECKING:
    from collections.abc import Callable


def list_(
    topic: Annotated[
        str,
        typer.Argument(
            help="methods, datasets, presets, settings, measures, encoders, fusions or rules.",
            show_default=False,
            autocompletion=lambda: [*_TOPICS],
        ),
    ],
    json: options.Json = False,
) -> None:
    """List methods, data sets, presets, settings, measures, encoders, fusions or decision rules."""
    from mgap_cli.report.tables.choices import choices_table

    if topic not in _TOPICS:
        hint = did_you_mean(topic, _TOPICS, f"Topics: {', '.join(_TOPICS)}.", "`mgap list {}`")
        raise UsageError(f"list: there is no topic {topic!r}.", hint)
    columns, rows = _TOPICS[topic]()
    document: dict[str, Any] = {
        "schema": schema("list"),
        "topic": topic,
        topic: [dict(zip(columns, row, strict=True)) for row in rows],
    }
    Output(json).result(document, choices_table(columns, rows))


Rows = tuple[tuple[str, ...], Sequence[tuple[str, ...]]]


def _methods() -> Rows:
    rows = [(e.name, e.summary, e.constants.get("PAPER", "")) for e in methods.entries()]
    return ("method", "summary", "paper"), rows


def _datasets() -> Rows:
    from mgap_cli.data.sources import SOURCES

    return ("data set", "summary"), [(e.name, e.constants["SUMMARY"]) for e in SOURCES.entries()]


def _presets() -> Rows:
    rows = [(name, configuration.preset_summary(name)) for name in configuration.presets()]
    return ("preset", "summary"), rows


def _settings() -> Rows:
    known = configuration.Config().with_methods(methods.names()).flat()
    others = {name: configuration.preset(name).flat() for name in configuration.presets()}
    rows = []
    for key, default in known.items():
        changed = {name: flat[key] for name, flat in others.items() if flat.get(key, default) != default}
        rows.append((key, str(default), "; ".join(f"{name}: {value}" for name, value in changed.items())))
    return ("setting", "default", "presets"), rows


def _measures() -> Rows:
    from mgap_cli.analysis.measures import MEASURES

    rows = []
    for entry in MEASURES.entries():
        sources = dict.fromkeys(text for name, text in entry.constants.items() if name.endswith("SOURCE"))
        rows.append((entry.name, entry.summary, "; ".join(sources) or "ours"))
    return ("measures", "summary", "source"), rows


def _encoders() -> Rows:
    rows = [
        (
            e.name,
            e.summary,
            *(e.constants[fact] for fact in ("INPUTS", "FEATURES", "PREPROCESSING")),
            e.constants.get("PAPER", "ours"),
        )
        for e in configuration.ENCODERS.entries()
    ]
    return ("encoder", "summary", "inputs", "features", "preprocessing", "paper"), rows


def _fusions() -> Rows:
    rows = [
        (e.name, e.summary, e.constants["MODALITIES"], e.constants.get("PAPER", ""))
        for e in configuration.FUSIONS.entries()
    ]
    return ("fusion", "summary", "modalities", "paper"), rows


def _rules() -> Rows:
    rows = [(e.name, e.summary, e.constants.get("PAPER", "")) for e in configuration.RULES.entries()]
    return ("rule", "summary", "paper"), rows


_TOPICS: dict[str, Callable[[], Rows]] = {
    "methods": _methods,
    "datasets": _datasets,
    "presets": _presets,
    "settings": _settings,
    "measures": _measures,
    "encoders": _encoders,
    "fusions": _fusions,
    "rules": _rules,
}
