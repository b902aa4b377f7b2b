"""The values of a trial depend only on the finished trials."""

from __future__ import annotations

import sys

import pytest

from mgap_cli.comparison.suggestions import require_optuna, suggestion
from mgap_cli.config import Between, OneOf
from mgap_cli.errors import UsageError

SPACE = {"train.lr": Between(1e-3, 1e-1, log=True), "own.every": Between(1, 9), "own.form": OneOf("a", "b")}
START = {"train.lr": 1e-2, "own.every": 4, "own.form": "a"}


def outcomes(trials: int) -> list[tuple[dict[str, object], float]]:
    """Return finished trials whose accuracy is highest at a large learning rate."""
    finished: list[tuple[dict[str, object], float]] = []
    for _ in range(trials):
        values = suggestion(SPACE, START, finished)
        finished.append((values, float(values["train.lr"]) * 10))
    return finished


def test_the_first_trial_has_the_values_of_the_plan():
    assert suggestion(SPACE, START, []) == START


def test_a_missing_optuna_is_one_message(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match="not installed") as caught:
        require_optuna()
    assert caught.value.hint == "Run: pip install 'mgap[tune]'"


def test_suggestions_lie_in_the_space_and_repeat():
    pytest.importorskip("optuna")
    finished = outcomes(14)
    assert finished == outcomes(14)
    for values, _ in finished:
        assert all(values[key] in search for key, search in SPACE.items())
        assert type(values["own.every"]) is int
    assert len({values["train.lr"] for values, _ in finished}) == 14


def test_random_trials_cover_the_space_of_every_method_equally():
    pytest.importorskip("optuna")
    alone = {"train.lr": SPACE["train.lr"]}
    start = {"train.lr": 1e-2}
    one = suggestion(alone, start, [(start, 0.5)])
    assert one["train.lr"] == suggestion(SPACE, START, [(START, 0.5)])["train.lr"]


def test_later_trials_go_where_the_accuracy_is_high():
    pytest.importorskip("optuna")
    rates = [float(values["train.lr"]) for values, _ in outcomes(30)]
    assert sum(rates[20:]) / 10 > sum(rates[:10]) / 10
