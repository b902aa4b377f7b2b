"""Training methods, one per file, found by name.

A method's name is its file's name with `-` for `_`. Names and summaries are read without importing the
files, which import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgap_cli import config as configuration
from mgap_cli.errors import UsageError
from mgap_cli.plugins import is_plugin, load_class
from mgap_cli.registry import Choices

if TYPE_CHECKING:
    from mgap_cli.methods.base import Method

METHODS = Choices(__name__, without=("attribution", "base"))
names, entries = METHODS.names, METHODS.entries
FAIR_BASELINE = "joint-heads"  # trains the same heads as most methods, and changes nothing else
PLAIN = "joint"  # training without a balancing method; its time is the unit of cost
_plugins: dict[str, type[Method]] = {}  # loaded classes from users' own files, by the method's name


def load_method(name: str) -> type[Method]:
    """Return the method called `name`, or the class that `path/to/file.py:Name` names.

    Raises UsageError for an unknown name, and for a file or class that cannot be loaded.
    """
    from mgap_cli.methods.base import Method

    method = load_class(METHODS, name, Method, "method")
    if is_plugin(name):
        if not method.name or method.name in names():
            raise UsageError(
                f"{name}: its class has the name {method.name!r}, which is empty or taken.",
                "Give the class another `name`.",
            )
        _plugins[method.name] = method
    return method


def settings_type(section: str) -> type | None:
    """Return the settings of the method with this section; None if there is no such method."""
    if section in _plugins:
        return _plugins[section].Settings
    return load_method(section).Settings if section in names() else None


configuration.find_sections_with(settings_type, names)
