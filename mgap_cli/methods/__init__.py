"""Training methods, one per file, found by name.

A method's name is its file's name with `-` for `_`. Names and summaries are read without importing the
files, which import torch.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from mgap_cli import config as configuration
from mgap_cli.errors import UsageError
from mgap_cli.plugins import is_plugin, load_plugin
from mgap_cli.registry import Entry, describe, stems

if TYPE_CHECKING:
    from mgap_cli.methods.base import Method

_NO_METHODS = ("attribution", "base")
_plugins: dict[str, type[Method]] = {}  # of users' own files, once loaded, by the method's name


def _modules() -> dict[str, str]:
    """Return the module of every method that ships, by the method's name."""
    return stems(__path__, without=_NO_METHODS)


def names() -> list[str]:
    """Return the names of the methods that ship, in alphabetical order."""
    return list(_modules())


def entries() -> list[Entry]:
    """Return every method that ships with its summary and its constants, such as PAPER."""
    return [describe(Path(__path__[0], f"{stem}.py")) for stem in _modules().values()]


def load_method(name: str) -> type[Method]:
    """Return the method called `name`, or the class that `path/to/file.py:Name` names.

    Raises UsageError for an unknown name, and for a file or class that cannot be loaded.
    """
    from mgap_cli.methods.base import Method

    if is_plugin(name):
        method = load_plugin(name, Method, "method")
        if not method.name or method.name in _modules():
            raise UsageError(
                f"{name}: its class has the name {method.name!r}, which is empty or taken.",
                "Give the class another `name`.",
            )
        _plugins[method.name] = method
        return method
    if name not in _modules():
        raise UsageError(
            f"unknown method {name!r}.",
            f"Choose one of: {', '.join(names())}; or give your own as path/to/file.py:Name.",
        )
    module = importlib.import_module(f"{__name__}.{_modules()[name]}")
    return next(
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Method) and kind.name == name
    )


def settings_type(section: str) -> type | None:
    """Return the settings of the method whose section this is; None if there is no such method."""
    if section in _plugins:
        return _plugins[section].Settings
    return load_method(section).Settings if section in _modules() else None


configuration.find_sections_with(settings_type, names)
