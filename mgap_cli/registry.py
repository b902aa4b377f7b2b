"""The modules of a folder as a list of choices, read without importing them, because that takes seconds."""

from __future__ import annotations

import ast
import pkgutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """One choice. name: the file's name with `-` for `_`. stem: the file's name.

    summary: the first line of its docstring. constants: its module-level text constants, by name.
    """

    name: str
    stem: str
    summary: str
    constants: dict[str, str]


def stems(path: Iterable[str], without: Collection[str] = ()) -> dict[str, str]:
    """Return the modules in a package's `__path__`, {name: stem} in alphabetical order."""
    found = sorted(module.name for module in pkgutil.iter_modules(path) if module.name not in without)
    return {stem.replace("_", "-"): stem for stem in found}


@cache
def describe(file: Path) -> Entry:
    """Return the name, docstring and text constants of a module, from its source."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value.value, str)
    }
    summary = (ast.get_docstring(tree) or "").partition("\n")[0]
    return Entry(file.stem.replace("_", "-"), file.stem, summary, constants)
