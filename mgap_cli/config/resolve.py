"""Resolve settings from all their sources.

Precedence, lowest first: the defaults of `schema`, a preset (`presets/*.yaml`), the user's YAML file,
`MGAP_SECTION__KEY` in the environment, `--set section.key=value`, named flags.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mgap_cli.config.method_sections import method_section
from mgap_cli.config.schema import Config
from mgap_cli.errors import UsageError
from mgap_cli.files import require_regular_file
from mgap_cli.yaml_reader import parse_yaml, shortened

ENVIRONMENT_PREFIX = "MGAP_"
LARGEST_FILE = 1_000_000  # largest settings file in bytes, far more than all settings need


def from_dict(tree: Mapping[str, Any], origin: str, base: Config | None = None) -> Config:
    """Return `base` (default: the defaults) changed by a tree `{section: {key: value}}`."""
    return (base or Config()).updated(_flattened(tree, origin), origin)


def resolve(
    base: Config,
    *,
    file: Path | None = None,
    sets: Iterable[str] = (),
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Config:
    """Return `base` changed by a YAML file, the environment, `--set` and named flags, in that order.

    `flags` maps `section.key` to a value, or to None if the flag was not given.
    """
    config = base
    if file is not None:
        config = from_dict(read_yaml(file), str(file), config)
    env = _environment_changes(os.environ if environment is None else environment)
    config = config.updated(env, "environment")
    config = config.updated(dict(_parsed_set(word) for word in sets), "--set")
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    return config.updated(given, "command line")


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises UsageError if `path` is not a regular file of UTF-8 text and reasonable size, or does not hold one
    mapping of plain values (see `yaml_reader`).
    """
    require_regular_file(path, "a settings file")
    try:
        content = path.open("rb").read(LARGEST_FILE + 1)
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UsageError(f"{path}: the settings file cannot be read ({reason}).") from error
    if len(content) > LARGEST_FILE:
        raise UsageError(f"{path}: this file is too large for settings (more than {LARGEST_FILE:,} bytes).")
    tree = parse_yaml(text, str(path))
    if not isinstance(tree, dict):
        raise UsageError(f"{path}: expected a mapping of sections, such as `train: {{lr: 0.01}}`.")
    return tree


def differing_keys(a: Config, b: Config, sections: Iterable[str]) -> dict[str, tuple[Any, Any]]:
    """Return `{key: (value in a, value in b)}` for the settings in `sections` that differ."""
    chosen = set(sections)
    methods = {*a.methods, *b.methods} & chosen
    left, right = a.with_methods(methods).flat(), b.with_methods(methods).flat()
    return {k: (left[k], right[k]) for k in left if k.split(".")[0] in chosen and left[k] != right[k]}


def _flattened(tree: Mapping[str, Any], origin: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for section, keys in tree.items():
        if not isinstance(keys, Mapping):
            raise UsageError(f"{origin}: {shortened(section)} must hold a mapping of settings.")
        for key, value in keys.items():
            if not (isinstance(section, str) and isinstance(key, str)):
                wrong = key if isinstance(section, str) else section
                raise UsageError(f"{origin}: {shortened(wrong)} is not the name of a setting.")
            flat[f"{section}.{key}"] = value
    return flat


def _environment_changes(environment: Mapping[str, str]) -> dict[str, Any]:
    # Only names with the double underscore are settings: MGAP_DEBUG and the like are not.
    changes: dict[str, Any] = {}
    for name, value in environment.items():
        if name.startswith(ENVIRONMENT_PREFIX) and "__" in name:
            section, _, setting = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
            dashed = section.replace("_", "-")  # the name of a variable cannot have a dash, as in `ogm-ge`
            key = f"{dashed if dashed != section and method_section(dashed) else section}.{setting}"
            if key in changes:
                raise UsageError(
                    f"environment: {shortened(name)} sets {key}, which another variable sets too."
                )
            changes[key] = parse_yaml(value, f"environment: {name}")
    return changes


def _parsed_set(word: str) -> tuple[str, Any]:
    key, equals, value = word.partition("=")
    if not equals:
        raise UsageError(
            f"--set {shortened(word)}: expected section.key=value.", "For example: --set train.lr=0.01"
        )
    return key.strip(), parse_yaml(value, f"--set {shortened(word)}")
