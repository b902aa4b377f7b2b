"""The modules of a package as a list of choices. They are not imported, because that takes seconds."""

from __future__ import annotations

import ast
import importlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType


@dataclass(frozen=True)
class Entry:
    """One choice. name: the file's name with `-` in place of `_`. stem: the file's name.

    summary: the first line of its docstring. constants: its module-level text constants, by name.
    """

    name: str
    stem: str
    summary: str
    constants: dict[str, str]


@dataclass(frozen=True)
class Choices:
    """The modules of a package as choices. package: its name. without: modules that are not choices."""

    package: str
    without: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """Return the names, in alphabetical order."""
        return sorted(self._files())

    def entries(self) -> list[Entry]:
        """Return every choice with its summary and its constants, such as PAPER."""
        files = self._files()
        return [_describe(files[name]) for name in self.names()]

    def load(self, name: str) -> ModuleType:
        """Import the module of a choice; KeyError if no choice has that name."""
        return importlib.import_module(f"{self.package}.{self._files()[name].stem}")

    def _files(self) -> dict[str, Path]:
        folders = map(Path, importlib.import_module(self.package).__path__)
        files = [file for folder in folders for file in folder.glob("*.py")]
        return {
            file.stem.replace("_", "-"): file
            for file in files
            if file.stem not in ("__init__", *self.without)
        }


@cache
def _describe(file: Path) -> Entry:
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
