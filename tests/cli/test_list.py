"""`mgap list` names everything that the program accepts, and imports nothing heavy."""

from __future__ import annotations

import pytest
from helpers.program import mgap

from mgap_cli import methods
from mgap_cli.config import Config, presets
from mgap_cli.data.sources import source_names

TOPICS = {
    "methods": ("method", methods.names()),
    "datasets": ("data set", source_names()),
    "presets": ("preset", presets()),
    "measures": ("measures", ["confidence", "discrepancy", "gradients", "probe", "shapley"]),
}


@pytest.mark.parametrize("topic", TOPICS)
def test_every_choice_has_a_line(topic):
    key, names = TOPICS[topic]
    rows = mgap("list", topic, "--json").json()[topic]
    assert [row[key] for row in rows] == names
    assert all(row["summary"] for row in rows)
    lines = mgap("list", topic).out
    assert all(name in lines for name in names)


def test_settings_have_their_defaults_and_those_of_the_presets():
    rows = {row["setting"]: row for row in mgap("list", "settings", "--json").json()["settings"]}
    assert set(rows) >= {*Config().flat(), "adaptive.lambda_gap", "ogm-ge.alpha"}
    presets = "cremad-20s: 200; digits: 18; features: 30"
    assert rows["train.epochs"] == {"setting": "train.epochs", "default": "100", "presets": presets}


def test_methods_name_their_papers():
    papers = {row["method"]: row["paper"] for row in mgap("list", "methods", "--json").json()["methods"]}
    assert papers["ogm-ge"] == "Peng et al., CVPR 2022" and papers["adaptive"] == "arXiv 2510.21797"


def test_an_unknown_topic_is_a_usage_error():
    mgap("list", "everything").fails(2, "there is no topic 'everything'", "Topics: methods, datasets")
    mgap("list", "fusion").fails(2, "Did you mean `mgap list fusions`?")
