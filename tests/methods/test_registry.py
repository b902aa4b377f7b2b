"""Methods are found by name; a new method needs one new file, and no other code has its name."""

from __future__ import annotations

import ast
import dataclasses
import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.methods import HEADS, built, configured
from helpers.program import mgap, sets

import mgap_cli
from mgap_cli import methods
from mgap_cli.config import Config, resolve
from mgap_cli.errors import ExitCode, UsageError
from mgap_cli.methods import load_method
from mgap_cli.methods.base import Method

NAMES = {
    *("joint", "joint-heads", "unimodal", "ogm", "ogm-ge", "adaptive"),
    *("mmpareto", "agm", "pmr", "mla", "lfm"),
    *("detached", "freeze", "umt", "ensemble", "reconboost", "relearning", "gblend"),
    *("opm", "mmcosine", "cml", "inforeg", "smv", "remix", "pooled"),
}
PACKAGE = Path(mgap_cli.__file__).parent
OUTSIDE = sorted(m for m in PACKAGE.rglob("*.py") if PACKAGE / "methods" not in m.parents)


def test_the_methods_that_ship():
    assert [entry.name for entry in methods.entries()] == methods.names()
    assert all(entry.summary.endswith(".") for entry in methods.entries())
    assert set(methods.names()) >= NAMES
    assert methods.names() == sorted(methods.names())
    for name in methods.names():
        method = load_method(name)
        assert issubclass(method, Method) and method.name == name
        assert dataclasses.is_dataclass(method.Settings) and method.Settings() == method.Settings()


@pytest.mark.parametrize("name", sorted(NAMES))
def test_built_by_name(name):
    chosen = {"unimodal.modality": "visual"} if name == "unimodal" else {}
    method = built(name, configured(**chosen))
    assert method.name == name
    assert method.heads and set(method.heads) <= set(HEADS)
    assert isinstance(method.settings, load_method(name).Settings)


@pytest.mark.parametrize("modality", ["", "touch"])
def test_unimodal_needs_a_modality_of_the_store(modality):
    with pytest.raises(UsageError, match=r"unimodal\.modality.*audio, visual") as caught:
        built("unimodal", configured(**{"unimodal.modality": modality}))
    assert "--set unimodal.modality=audio" in caught.value.hint


def test_an_unknown_name_is_a_usage_error_that_lists_the_known_ones():
    with pytest.raises(UsageError, match="'adaptve'") as caught:
        load_method("adaptve")
    assert caught.value.exit_code == ExitCode.USAGE
    assert all(name in caught.value.hint for name in NAMES)


def test_a_new_file_is_a_new_method(tmp_path, monkeypatch):
    (tmp_path / "mine_for_test.py").write_text(
        "from dataclasses import dataclass\n\n"
        "from mgap_cli.methods.joint import Joint\n\n\n"
        "@dataclass(frozen=True)\nclass Settings:\n    strength: float = 2.0\n\n\n"
        "class Mine(Joint):\n    name = 'mine-for-test'\n    Settings = Settings\n"
    )
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    try:
        assert "mine-for-test" in methods.names()
        method = built("mine-for-test", configured(**{"mine-for-test.strength": 3}))
        assert method.probes and method.settings.strength == 3.0
    finally:
        sys.modules.pop("mgap_cli.methods.mine_for_test", None)
        vars(methods).pop("mine_for_test", None)
        gc.collect()


# --- no code outside the methods depends on a method's name


def names_in(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and text of every string in code that is a method's name or its beginning, as f"ogm-{x}".

    Docstrings are prose, and a default value of a setting called `method` is allowed.
    """
    allowed = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        or (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and node.target.id == "method"
        )
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in allowed:
            text = node.value.strip("-_")
            if text in NAMES or text.replace("_", "-") in NAMES:
                yield node.lineno, node.value


@pytest.mark.parametrize("module", OUTSIDE, ids=lambda m: m.relative_to(PACKAGE).as_posix())
def test_no_code_outside_the_methods_depends_on_a_methods_name(module):
    assert set(methods.names()) == NAMES, "a new method joins NAMES"
    assert list(names_in(ast.parse(module.read_text(encoding="utf-8")))) == []


def test_the_settings_schema_has_two_method_names_as_default_values():
    config = Config()
    assert {config.warmup.method, config.adapt.method} <= NAMES


@pytest.mark.parametrize(
    "code",
    [
        'if method == "joint": pass',
        'if "ogm-ge" != method: pass',
        'if method in ("ogm", "x"): pass',
        'if method.startswith("unimodal-"): pass',
        'if method == f"unimodal-{modality}": pass',
        'wanted = f"unimodal-{modality}"',
        'table = {"adaptive": 1}',
        'match method:\n    case "joint-heads": pass',
        'match method:\n    case "a" | "joint_heads": pass',
        'method = "joint"',
    ],
)
def test_the_check_finds_a_methods_name(code):
    assert list(names_in(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    ['"""joint"""', 'method: str = "joint"', 'hint = "Use --method joint."', "model.unimodal", "joint = 1"],
)
def test_the_check_allows_prose_and_default_values(code):
    assert not list(names_in(ast.parse(code)))


# --- settings


@pytest.mark.parametrize("source", ["file", "set", "environment"])
def test_the_settings_of_a_method_are_a_section(tmp_path, source):
    file, words, environment = None, [], {}
    if source == "file":
        file = tmp_path / "mine.yaml"
        file.write_text("ogm-ge: {alpha: 0.25, end: 0.75}\n")
    elif source == "set":
        words = ["ogm-ge.alpha=0.25", "ogm-ge.end=0.75"]
    else:
        environment = {"MGAP_OGM_GE__ALPHA": "0.25", "MGAP_OGM_GE__END": "0.75"}
    config = resolve(Config(), file=file, sets=words, environment=environment)
    settings = config.method_settings("ogm-ge")
    assert settings == load_method("ogm-ge").Settings(alpha=0.25, start=0.0, end=0.75)
    assert config.method_settings("ogm") == load_method("ogm").Settings(), "another method has its own"
    assert config.to_dict()["ogm-ge"] == {"alpha": 0.25, "start": 0.0, "end": 0.75}


def test_sources_of_a_methods_settings_have_the_same_precedence_as_any_other(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("ogm-ge: {alpha: 0.1, start: 0.1, end: 0.6}\n")
    environment = {"MGAP_OGM_GE__ALPHA": "0.2", "MGAP_OGM_GE__START": "0.2"}
    config = resolve(Config(), file=file, sets=["ogm-ge.alpha=0.3"], environment=environment)
    assert config.method_settings("ogm-ge") == load_method("ogm-ge").Settings(0.3, 0.2, 0.6)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("ogm-ge.alhpa", "ogm-ge.alpha"),
        ("ogm_ge.alpha", "ogm-ge.alpha"),
        ("ogn.alpha", "ogm.alpha"),
        ("adaptive.stop_gradeint", "adaptive.stop_gradient"),
        ("adaptve.alpha", "adaptive.alpha"),
        ("unimodal.modalty", "unimodal.modality"),
    ],
)
@pytest.mark.parametrize("source", ["file", "set", "environment"])
def test_an_unknown_setting_of_a_method_is_refused_with_a_suggestion(tmp_path, source, wrong, right):
    section, key = wrong.split(".")
    file, words, environment = None, [], {}
    if source == "file":
        file = tmp_path / "mine.yaml"
        file.write_text(f"{section}: {{{key}: 1}}\n")
    elif source == "set":
        words = [f"{wrong}=1"]
    else:
        name = f"MGAP_{section.replace('-', '_')}__{key}".upper()
        environment = {name: "1"}
        if section == "ogm_ge":
            pytest.skip("in a variable's name the underscore stands for the dash")
    with pytest.raises(UsageError, match="unknown setting") as caught:
        resolve(Config(), file=file, sets=words, environment=environment)
    assert caught.value.hint == f"Did you mean {right}?"


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("ogm.alpha=-1", "ogm.alpha is -1.0; it must be at least 0"),
        ("ogm.end=1.5", "ogm.end is 1.5; it must be at least 0 and at most 1"),
        ("adaptive.stop_gradient=weak", "adaptive.stop_gradient is 'weak'; expected one of leading, none"),
        ("adaptive.refit_every=x", "adaptive.refit_every is 'x'; expected a whole number"),
    ],
)
def test_an_unfit_value_of_a_methods_setting_is_refused(word, problem):
    with pytest.raises(UsageError) as caught:
        resolve(Config(), sets=[word], environment={})
    assert problem in caught.value.message


def test_the_program_reads_a_methods_settings_from_every_source(store, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("ogm-ge: {alpha: 0.25}\n")
    line = ["warmup", store, "-o", tmp_path / "run", "--dry-run", "--json", "--method", "ogm-ge"]
    given = [*line, "--config", file, *sets("ogm-ge.end=0.75")]
    document = mgap(*given, env={"MGAP_OGM_GE__START": "0.125"}).json()
    assert document["config"]["ogm-ge"] == {"alpha": 0.25, "start": 0.125, "end": 0.75}
    mgap(*line, *sets("ogm-ge.alhpa=1")).fails(2, "unknown setting 'ogm-ge.alhpa'", "ogm-ge.alpha?")
