"""`mgap docs` lists the pages of mgap and shows each in the terminal."""

from __future__ import annotations

import runpy

import pytest
from helpers.pages import PAGES
from helpers.program import ROOT, Done, call

TOPICS = sorted(set(PAGES) - {"README"})


def docs(*words: str) -> Done:
    return call("docs", *words, env={"COLUMNS": "80"})


def test_the_list_has_one_line_per_page():
    pages = docs("--json").json()["pages"]
    assert sorted(page["topic"] for page in pages) == TOPICS
    assert all(0 < len(page["summary"]) <= 65 for page in pages), "a line has 80 columns"
    assert len(docs().out.splitlines()) == 2 + len(TOPICS)


@pytest.mark.parametrize("topic", TOPICS)
def test_a_page_is_shown_completely(topic):
    done = docs(topic)
    assert done.code == 0 and not done.err
    assert max(map(len, done.out.splitlines())) <= 80
    assert "…" not in done.out or "…" in PAGES[topic]
    # Every word is there: lines may be broken anywhere, so without any white space.
    text = "".join(character for character in done.out if character.isalnum())
    for line in PAGES[topic].splitlines():
        if line and line[0].isalpha() and "](" not in line:
            assert "".join(character for character in line if character.isalnum()) in text
    assert docs(topic, "--json").json()["text"] == PAGES[topic]


def test_a_link_to_another_page_becomes_a_command():
    text = " ".join(docs("analysis").out.split())
    assert "The page performance (mgap docs performance)" in text and "](" not in text


def test_an_unknown_page_is_a_wrong_command_line():
    docs("analisys").fails(2, "no page 'analisys'", "mgap docs analysis")
    docs("zzz").fails(2, "no page 'zzz'", "data, clusters")


def test_the_reference_and_the_table_of_commands_have_not_drifted():
    script = runpy.run_path(str(ROOT / ".ci" / "reference.py"))
    assert not script["drifted"](), "run: python .ci/reference.py"
