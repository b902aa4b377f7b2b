"""Methods are found by name; a new file is all that a new one takes."""

from __future__ import annotations

import gc
import sys

import pytest

from mgap_cli import methods
from mgap_cli.config import Config
from mgap_cli.errors import ExitCode, UsageError
from mgap_cli.model.network import HEADS

NAMES = {"joint", "joint-heads", "unimodal-audio", "unimodal-visual", "ogm", "ogm-ge", "adaptive"}


def test_the_objectives_that_ship():
    registry = methods.registry()
    assert set(registry) >= NAMES
    assert list(registry) == sorted(registry)
    for name, kind in registry.items():
        assert kind.name == name
        assert kind.heads
        assert set(kind.heads) <= set(HEADS)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_built_by_name(name):
    assert methods.build_objective(name, Config(), 5).name == name


def test_an_unknown_name_is_a_usage_error_that_lists_the_known_ones():
    with pytest.raises(UsageError, match="'adaptve'") as caught:
        methods.build_objective("adaptve", Config(), 5)
    assert caught.value.exit_code == ExitCode.USAGE
    assert all(name in caught.value.hint for name in NAMES)


def test_a_new_file_is_a_new_objective(tmp_path, monkeypatch):
    (tmp_path / "mine_for_test.py").write_text(
        "from mgap_cli.methods.joint import Joint\n\n\nclass Mine(Joint):\n    name = 'mine-for-test'\n"
    )
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    try:
        assert methods.build_objective("mine-for-test", Config(), 5).probes
    finally:
        sys.modules.pop("mgap_cli.methods.mine_for_test", None)
        vars(methods).pop("mine_for_test", None)
        gc.collect()
