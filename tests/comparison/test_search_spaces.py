"""The search spaces of the methods of mgap, and of users' own methods."""

from __future__ import annotations

import pytest

from mgap_cli.config import Between, Config, OneOf, search_of
from mgap_cli.errors import UsageError
from mgap_cli.methods import names, space_of


@pytest.mark.parametrize("method", names())
def test_a_space_has_existing_settings_and_contains_their_defaults(method):
    config = Config().with_methods([method])
    defaults = config.flat()
    for key, search in space_of(method).items():
        assert key.startswith(f"{method}.") and defaults[key] in search
        ends = search.values if isinstance(search, OneOf) else (search.low, search.high)
        for value in ends:
            assert config.updated({key: value}, "test").flat()[key] == value


def test_most_methods_have_a_space():
    """The others have no number to tune."""
    assert {method for method in names() if not space_of(method)} == {"joint", "unimodal", "ensemble"}


def test_a_space_of_an_unknown_setting_is_refused(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from mgap_cli.config import Between, search_space\n"
        "from mgap_cli.methods.base import Method\n\n"
        "class Mine(Method):\n"
        "    name = 'mine'\n"
        "    space = search_space(strength=Between(0, 1))\n"
    )
    with pytest.raises(UsageError, match=r"mine\.strength"):
        space_of(f"{path}:Mine")


@pytest.mark.parametrize("ends", [(1, 1), (2, 1)])
def test_a_range_without_values_is_refused(ends):
    with pytest.raises(ValueError, match="nothing to choose"):
        Between(*ends)
    with pytest.raises(ValueError, match="nothing to choose"):
        Between(0, 1, log=True)


@pytest.mark.parametrize("search", [Between(0.5, 3, log=True), OneOf("a", "b")])
def test_a_search_is_read_back_from_plain_values(search):
    assert search_of(search.to_dict()) == search
