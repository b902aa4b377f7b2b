"""What is compared: methods with their settings, stores and seeds, from the command line or a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgap_cli.comparison.plan import Cell, MethodChoice, Request, parse_methods, read_request
from mgap_cli.errors import UsageError
from mgap_cli.workflow.comparison import Comparison


def labels(methods: tuple[MethodChoice, ...]) -> list[str]:
    return [method.label for method in methods]


def test_methods_accept_their_own_settings():
    chosen = parse_methods(
        "joint, adaptive:lambda_gap=3:scores=online,path/to/mine.py:Smoothed:smoothing=0.2"
    )
    assert chosen == (
        MethodChoice("joint"),
        MethodChoice("adaptive", (("lambda_gap", 3), ("scores", "online"))),
        MethodChoice("path/to/mine.py:Smoothed", (("smoothing", 0.2),)),
    )
    assert labels(chosen) == ["joint", "adaptive-lambda_gap=3-scores=online", "Smoothed-smoothing=0.2"]


def test_a_plan_file_spans_a_grid(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(
        "stores: [data/a, data/b]\nseeds: [3, 5]\nsettings: {train: {epochs: 4}}\n"
        "methods:\n  joint:\n  adaptive: {lambda_gap: [1, 3], scores: online}\n"
    )
    request = read_request(path)
    assert labels(request.methods) == [
        "joint",
        "adaptive-lambda_gap=1-scores=online",
        "adaptive-lambda_gap=3-scores=online",
    ]
    assert request.settings == {"train": {"epochs": 4}}
    names, methods = request.store_names().values(), labels(request.methods)
    planned = Comparison(dict.fromkeys(names, ""), {}, dict.fromkeys(methods, ""), request.seeds, {})
    cells = planned.cells()
    assert len(cells) == len(set(cells)) == 2 * 3 * 2
    assert cells[:2] == [Cell("a", "joint", 3), Cell("a", "adaptive-lambda_gap=1-scores=online", 3)]
    assert {cell.seed for cell in cells[:6]} == {3}, "a comparison that is stopped early has whole seeds"


def test_a_list_in_a_plan_has_the_words_of_the_command_line(tmp_path):
    words = ["joint", "unimodal:modality=audio", "mine.py:Smoothed:smoothing=0.2"]
    path = tmp_path / "study.yaml"
    path.write_text(f"stores: [a]\nmethods: {words}\n")
    assert read_request(path).methods == parse_methods(",".join(words))


def test_stores_with_the_same_name_get_different_names():
    request = Request((Path("x/digits"), Path("y/digits"), Path("z")), (MethodChoice("joint"),), (0,))
    assert list(request.store_names().values()) == ["x-digits", "y-digits", "z"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("methods: [joint]\nstores: [a]\nepochs: 3", "unknown key"),
        ("methods: 3\nstores: [a]", "methods must be"),
        ("methods: [joint]\nstores: a", "stores must be"),
        ("methods: [joint]\nstores: [a]\nseeds: -1", "seeds is -1"),
        ("methods: [joint, joint]\nstores: [a]", "2 times"),
        ("methods: []\nstores: [a]", "no method"),
        ("methods: [joint, ':a=1']\nstores: [a]", "':a=1' has no name of a method"),
        ("methods: [joint]\nstores: [a, ./a]", "2 times"),
        ("methods: [joint]\nstores: [a]\nsettings: 3", "settings must be"),
    ],
)
def test_a_wrong_plan_is_one_message(tmp_path, text, words):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_request(path)
    assert words in caught.value.message
