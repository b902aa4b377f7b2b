"""The sections that methods add: the settings of a method are a section with the method's name.

`methods/` registers a finder here, so that the schema need not import it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

_Finder = Callable[[str], type | None]
_finders: list[tuple[_Finder, Callable[[], Iterable[str]]]] = []


def find_sections_with(finder: _Finder, names: Callable[[], Iterable[str]]) -> None:
    """Add the sections of methods, which the schema does not know.

    finder: returns the dataclass of a section by its name; None if it has no such section. names: returns
    the names of all its sections, for suggestions.
    """
    _finders.append((finder, names))


def method_section(name: str) -> type | None:
    return next((settings for find, _ in _finders if (settings := find(name)) is not None), None)


def method_section_names() -> list[str]:
    return [name for _, names in _finders for name in names()]
