"""All text that people read: comments and strings of the code, and the pages.

    python tests/helpers/prose.py [--seed N] [--count N]

prints sentences of the program and its pages, drawn at random. Read each sentence once. If you have to read
it twice, it needs another wording.
"""

from __future__ import annotations

import argparse
import ast
import io
import random
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(
    path
    for pattern in (
        *("mgap_cli/**/*.py", "mgap_cli/**/*.md", "mgap_cli/**/*.yaml", "tests/**/*.py", "*.md", ".ci/*"),
    )
    for path in ROOT.glob(pattern)
    if path.is_file()
)


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and text of each comment and each string of a Python file, or of a whole page."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield 1, text
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


def sentences(path: Path) -> Iterator[str]:
    """Yield the complete sentences of a file with at least four words, without code blocks and tables."""
    for line, text in prose(path):
        plain = re.sub(r"^(```.*?^```|\|.*?)$", "", text, flags=re.MULTILINE | re.DOTALL)
        for paragraph in re.split(r"\n\s*\n|\n(?=[-#])", plain):
            for sentence in re.split(r"(?<=[.:?])\s+(?=[A-Z`])", " ".join(paragraph.split()).lstrip("#- ")):
                if len(sentence.split()) >= 4 and sentence[0].isalpha() and sentence[-1] in ".?":
                    yield f"{path.relative_to(ROOT)}:{line}: {sentence}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=50)
    options = parser.parse_args()
    shipped = [path for path in FILES if "tests" not in path.parts]
    everything = sorted({sentence for path in shipped for sentence in sentences(path)})
    print("\n".join(random.Random(options.seed).sample(everything, options.count)))


if __name__ == "__main__":
    main()
