"""Training objectives, a file a method, found by name.

To add one: write a file here with a subclass of `Objective` that carries a `name`; nothing else changes.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from mgap_cli.errors import UsageError

if TYPE_CHECKING:
    from mgap_cli.config import Config
    from mgap_cli.methods.base import Objective


def registry() -> dict[str, type[Objective]]:
    """Return every objective by its name."""
    from mgap_cli.methods.base import Objective

    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    found: dict[str, type[Objective]] = {}
    waiting = Objective.__subclasses__()
    while waiting:
        kind = waiting.pop()
        waiting.extend(kind.__subclasses__())
        if kind.name:
            found[kind.name] = kind
    return dict(sorted(found.items()))


def build_objective(name: str, config: Config, samples: int) -> Objective:
    """Return the objective called `name` for a store of `samples` rows.

    Raises UsageError for an unknown name, and for a fusion that the objective cannot read apart.
    """
    known = registry()
    if name not in known:
        raise UsageError(f"unknown objective {name!r}.", f"Choose one of: {', '.join(known)}.")
    return known[name](config, samples)
