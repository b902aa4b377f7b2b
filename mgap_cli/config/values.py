"""Read values of settings as their type, and refuse values that are out of range."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from types import UnionType
from typing import Any, Literal

from mgap_cli.config.ranges import Range
from mgap_cli.errors import UsageError
from mgap_cli.plugins import absolute_spec, is_plugin
from mgap_cli.registry import Choices
from mgap_cli.yaml_reader import shortened

_TYPE_NAMES = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}


def coerced(key: str, value: Any, expected_type: Any, origin: str) -> Any:
    """Return a setting's value as its type; UsageError, naming `origin`, if it cannot be read as that."""
    options = typing.get_args(expected_type) if typing.get_origin(expected_type) is Literal else ()
    if options:
        if value in options:
            return value
        expected = f"one of {', '.join(map(str, options))}"
        raise UsageError(f"{origin}: {key} is {shortened(value)}; expected {expected}.")
    assert not isinstance(expected_type, UnionType), "settings have one type each"
    if typing.get_origin(expected_type) is Mapping:
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise UsageError(f"{origin}: {key} is {shortened(value)}; expected a mapping of names.")
        inner = typing.get_args(expected_type)[1]
        return {name: coerced(f"{key}.{name}", v, inner, origin) for name, v in value.items()}
    if typing.get_origin(expected_type) is tuple:
        return _coerced_list(key, value, typing.get_args(expected_type)[0], origin)
    try:
        if expected_type is float and not isinstance(value, bool):
            return float(value)  # YAML 1.1 reads 1e-3 as a string
        if expected_type is int and not isinstance(value, bool) and float(value) == int(value):
            return int(value)
        if expected_type is bool and isinstance(value, bool):
            return value
        if expected_type is str and isinstance(value, str | int | float | None):
            text = "" if value is None else str(value)
            if "\0" not in text:  # no path has a NUL character
                return text
    except (TypeError, ValueError, OverflowError):
        pass
    raise UsageError(f"{origin}: {key} is {shortened(value)}; expected {_TYPE_NAMES[expected_type]}.")


def _coerced_list(key: str, value: Any, expected_type: Any, origin: str) -> tuple[Any, ...]:
    """Return the values of a YAML list, of text with commas, or a single one."""
    if isinstance(value, str):
        value = [word.strip() for word in value.split(",")]
    values = value if isinstance(value, list | tuple) else [value]
    if not values:
        raise UsageError(f"{origin}: {key} is empty; expected at least one value.")
    return tuple(coerced(key, item, expected_type, origin) for item in values)


def gathered(changes: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes with `section.key.name` gathered into the mapping that `section.key` holds."""
    gathered = dict(changes)
    for key, value in changes.items():
        outer, _, name = key.rpartition(".")
        if key not in known and isinstance(known.get(outer), Mapping):
            del gathered[key]
            before = gathered.get(outer, known[outer])
            gathered[outer] = {**(before if isinstance(before, Mapping) else {}), name: value}
    return gathered


def known_names(key: str, value: Any, metadata: Mapping[str, Any], origin: str) -> Any:
    """Return a value that names one of its setting's choices, or a user's own file with an absolute path.

    Raises UsageError for a name that is not a choice. The values of other settings are returned unchanged.
    """
    choices: Choices | None = metadata.get("choices")
    if choices is None:
        return value
    if isinstance(value, Mapping):
        return {name: _known_name(f"{key}.{name}", v, choices, origin) for name, v in value.items()}
    return _known_name(key, value, choices, origin)


def _known_name(key: str, value: str, choices: Choices, origin: str) -> str:
    if is_plugin(value):
        return absolute_spec(value)
    value = value.replace("_", "-")  # as torchvision writes vit_b_16
    if value not in choices.names():
        expected = f"one of {', '.join(choices.names())}"
        raise UsageError(
            f"{origin}: {key} is {shortened(value)}; expected {expected}, or your own as "
            "path/to/file.py:Name."
        )
    return value


def check_ranges(sections: Mapping[str, Any], origin: str) -> None:
    """Raise UsageError, naming `origin`, for a number in `{section: settings}` that is out of range."""
    for section, settings in sections.items():
        for setting in dataclasses.fields(settings):
            bounds: Range | None = setting.metadata.get("range")
            value = getattr(settings, setting.name)
            for number in value if isinstance(value, tuple) else (value,):
                if bounds is not None and not bounds.holds(number):
                    name = f"{section}.{setting.name}"
                    raise UsageError(f"{origin}: {name} is {shortened(number)}; it must be {bounds}.")
