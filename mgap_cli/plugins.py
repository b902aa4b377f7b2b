"""Classes from a user's own file, named as `path/to/file.py:Name`."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mgap_cli.errors import UnfitError, UsageError, reason_of
from mgap_cli.files import file_digest, require_regular_file
from mgap_cli.registry import Choices

T = TypeVar("T")
_SEPARATOR = ".py:"


@dataclass(frozen=True)
class Plugin:
    """A class in a user's file. path: absolute. name: the class. sha256: of the file, in hexadecimal."""

    path: str
    name: str
    sha256: str

    def require_unchanged(self, user: Path) -> None:
        """Raise UnfitError if the file is missing, or has changed since the file `user` was made with it."""
        path = Path(self.path)
        if not path.is_file():
            raise UnfitError(
                f"{user}: it was trained with {self.name} of {path}, which does not exist any more.",
                "Put the file back.",
            )
        if file_digest(path) != self.sha256:
            raise UnfitError(
                f"{user}: it was trained with another version of {path}.",
                "Restore that version, or train again with --force or in another folder.",
            )


def is_plugin(spec: str) -> bool:
    """Return whether `spec` names a class in a user's file, and not a built-in choice."""
    return _SEPARATOR in spec


def find_plugin(spec: str) -> Plugin:
    """Return the file and class that `path/to/file.py:Name` names; UsageError if there is no such file."""
    stem, _, name = spec.rpartition(_SEPARATOR)
    path = Path(f"{stem}.py").resolve()
    require_regular_file(path, "a Python file, as path/to/file.py:Name")
    return Plugin(str(path), name, file_digest(path))


def load_plugin(spec: str, base: type[T], what: str) -> type[T]:
    """Return the class that `path/to/file.py:Name` names. The file's code runs once per process.

    what: the role of the class, for messages. Raises UsageError if the file is missing, fails to run, or has
    no subclass of `base` under that name.
    """
    plugin = find_plugin(spec)
    module_name = f"mgap_plugin_{plugin.sha256[:16]}"
    module = sys.modules.get(module_name)
    if module is None:
        location = importlib.util.spec_from_file_location(module_name, plugin.path)
        assert location is not None and location.loader is not None
        module = importlib.util.module_from_spec(location)
        sys.modules[module_name] = module
        try:
            location.loader.exec_module(module)
        except Exception as error:  # a user's code may raise any exception
            del sys.modules[module_name]
            raise UsageError(
                f"{plugin.path}: it cannot be loaded ({type(error).__name__}: {reason_of(error)}).",
                "Correct the file.",
            ) from error
    loaded = getattr(module, plugin.name, None)
    if not isinstance(loaded, type) or not issubclass(loaded, base):
        raise UsageError(
            f"{plugin.path}: it has no class {plugin.name} that is a {what}.",
            f"Define `class {plugin.name}({base.__name__})`, with {base.__name__} of {base.__module__}.",
        )
    return loaded


def load_class(choices: Choices, name: str, base: type[T], what: str) -> type[T]:
    """Return the class called `name` from a package with one class per file, or from a user's own file.

    what: the role of the class, for messages. Raises UsageError for an unknown name, and for a file or class
    that cannot be loaded.
    """
    if is_plugin(name):
        return load_plugin(name, base, what)
    if name not in choices.names():
        raise UsageError(
            f"unknown {what} {name!r}.",
            f"Choose one of: {', '.join(choices.names())}; or give your own as path/to/file.py:Name.",
        )
    values = vars(choices.load(name)).values()
    classes = (value for value in values if isinstance(value, type) and issubclass(value, base))
    return next(each for each in classes if getattr(each, "name", "") == name)


def absolute_spec(spec: str) -> str:
    """Return `path/to/file.py:Name` with an absolute path, so that it is valid in any folder."""
    stem, _, name = spec.rpartition(_SEPARATOR)
    return f"{Path(f'{stem}.py').resolve()}:{name}"
