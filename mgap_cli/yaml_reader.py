"""A strict reader of YAML settings: numbers, text, true and false, null, lists and mappings.

It is stricter than PyYAML's safe loader, which can lose a setting, guess, or need unbounded time and memory.
Duplicate keys, dates, deep nesting and aliases of collections are refused.
"""

from __future__ import annotations

import reprlib
from collections.abc import Hashable
from typing import Any, ClassVar

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from mgap_cli.errors import UsageError

DEEPEST = 20  # levels of lists and mappings; settings need three
_PLAIN = ("null", "bool", "int", "float")  # types, besides text, that a word without quotes may have
_BUILT = (*_PLAIN, "str", "seq", "map")

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 80
_short.maxlevel = 2


def shortened(value: object) -> str:
    """Return `value` for a message: on one line, and shortened."""
    try:
        return " ".join(_short.repr(value).split())
    except ValueError:  # Python refuses to write an integer of more than 4,300 digits
        return "a number of thousands of digits"


def parse_yaml(text: str, origin: str) -> Any:
    """Return the plain value that `text` holds.

    Raises UsageError, naming `origin` and the line, unless the text is one valid document of plain values.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        problem = f"{line}{error.problem or error.context}"
    except yaml.reader.ReaderError as error:
        line = f"line {text.count(chr(10), 0, error.position) + 1}: "
        problem = f"{line}the character {ord(text[error.position]):#x} is not allowed"
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        problem = " ".join(str(error).split()) or type(error).__name__
    raise UsageError(f"{origin}: not valid YAML ({problem}).")


class _StrictLoader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's stub declares it without ClassVar)
        first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] in _PLAIN]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        tag: constructor
        for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in _BUILT
    }

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        repeated = self.anchors.get(event.anchor) if isinstance(event, yaml.AliasEvent) else None
        if isinstance(repeated, yaml.CollectionNode):
            problem = f"*{event.anchor} repeats a list or a mapping; write it out instead"
            raise ComposerError(None, None, problem, event.start_mark)
        self._depth += 1
        if self._depth > DEEPEST:
            problem = f"lists and mappings are nested more than {DEEPEST} levels deep"
            raise ComposerError(None, None, problem, event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            first: dict[Hashable, int] = {}
            for key_node, _ in node.value:
                key, line = self.construct_object(key_node, deep=True), key_node.start_mark.line + 1
                if key in first:
                    problem = f"the key {shortened(key)} is given twice, here and in line {first[key]}"
                    raise ConstructorError(None, None, problem, key_node.start_mark)
                first[key] = line
        return mapping

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (
            ValueError,
            LookupError,
            OverflowError,
        ) as error:  # PyYAML leaves int("x")'s error
            problem = f"{shortened(node.value)} is not of type {node.tag.rpartition(':')[2]}"
            raise ConstructorError(None, None, problem, node.start_mark) from error
