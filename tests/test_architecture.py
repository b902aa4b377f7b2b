"""Architecture: a module imports only from parts before its own, and heavy packages have one home."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.pages import PAGES

import mgap_cli

PACKAGE = Path(mgap_cli.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
ORDER = [
    "__init__", "errors", "packages", "cores", "processes", "files", "registry", "plugins", "signals",
    "yaml_reader", "config", "output", "docs", "modalities", "stats", "data", "model",
    "gap", "methods", "runs", "training", "evaluation", "analysis", "comparison", "report", "workflow",
    "commands", "app", "__main__",
]  # fmt: skip
HEAVY = (
    *("torch", "torchvision", "torchaudio", "numpy", "scipy", "sklearn", "matplotlib"),
    *("decord", "av", "soxr", "PIL", "pyarrow", "optuna"),
)
COMMANDS = (
    "prepare",
    "inspect",
    "train",
    "warmup",
    "analyze-gap",
    "adapt",
    "evaluate",
    "export",
    "report",
    "run",
    "compare",
    "list",
    "docs",
    "doctor",
)


def part(module: Path) -> str:
    """The part of the program that a file belongs to."""
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(module: Path) -> Iterator[str]:
    """Every module that a file names in an import, inside functions and TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            assert node.module
            if node.module == "mgap_cli":  # from mgap_cli import part
                names = (alias.name for alias in node.names)
                yield from (f"mgap_cli.{name}" for name in names if name != "__version__")
            else:
                yield node.module


def users(*packages: str) -> set[str]:
    """The files that import one of these packages, anywhere."""
    return {
        module.relative_to(PACKAGE).as_posix()
        for module in MODULES
        if any(name.split(".")[0] in packages for name in imports(module))
    }


def test_every_part_has_its_place():
    assert {part(m) for m in MODULES} <= set(ORDER)


def test_the_layout_in_the_docs_has_this_order():
    picture = PAGES["contributing"].partition("## Layout")[2].split("```")[1]
    names = [line.partition("  ")[0].split() for line in picture.strip().splitlines()]
    assert [name.rstrip("/") for line in names for name in line] == ORDER[1:]


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.relative_to(PACKAGE).as_posix())
def test_imports_go_one_way(module):
    rank = ORDER.index(part(module))
    ours = (name.split(".")[1] for name in imports(module) if name.startswith("mgap_cli."))
    assert [name for name in ours if ORDER.index(name) > rank] == []


def test_packages_with_one_home():
    assert users("decord", "decord2") == {"data/media/decode.py"}
    assert users("av") == {"data/media/streams.py", "data/media/sample_clips.py"}
    assert users("soxr") == {"data/media/audio.py"}
    assert users("optuna") == {"comparison/suggestions.py"}
    assert users("torchaudio") == {"data/media/filter_banks.py"}
    assert users("matplotlib") <= {f"report/figures/{p.name}" for p in PACKAGE.glob("report/figures/*")}
    assert users("click", "pandas", "torchcodec", "cv2") == set()
    assert users("typer") <= {
        "app.py",
        *(f"commands/{p.name}" for p in PACKAGE.glob("commands/*")),
    }


def test_the_schemas_of_documents_have_one_home():
    """Only a comparison's own records name theirs where they are read."""
    literal = re.compile(r"\"mgap\.[a-z-]+/")
    named = {p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py") if literal.search(p.read_text("utf-8"))}
    records = {"cell_result.py", "slurm_jobs.py", "tuning.py"}
    assert named == {Path("comparison", name) for name in records} | {Path("workflow", "comparison.py")}


def test_array_types_have_one_home():
    named = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and "NDArray" in ast.unparse(node.value)
    }
    assert named == {"stats/arrays.py"}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *([c, "--help"] for c in COMMANDS)], ids=" ".join
)
def test_help_imports_nothing_heavy(arguments):
    program = (
        "import sys\n"
        "from mgap_cli.__main__ import main\n"
        f"sys.argv = ['mgap', *{arguments!r}]\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        f"    print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "mgap" in done.stdout
    assert done.stderr.strip() == "[]"
