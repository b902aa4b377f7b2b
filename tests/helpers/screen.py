"""Tables as a terminal shows them."""

from __future__ import annotations

import io
import re

from rich.console import Console, RenderableType


def printed(renderable: RenderableType, width: int = 80, encoding: str = "utf-8") -> str:
    """Return what is printed on a terminal of this width."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    Console(file=stream, width=width).print(renderable)
    stream.flush()
    return raw.getvalue().decode(encoding)


def numbers(text: str) -> set[str]:
    """Return the numbers with a decimal point in a text."""
    return set(re.findall(r"(?<![\w.])[-+±]?\d+\.\d+(?![\w.])", text))
