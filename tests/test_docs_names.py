"""Every command, option, setting, path and link that the README and the pages name exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from helpers.pages import PAGES
from helpers.program import ROOT

from mgap_cli.app import app
from mgap_cli.config import Config
from mgap_cli.methods import names

TEXT = "\n".join(PAGES.values())
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL_BLOCKS = [text for language, text in FENCE.findall(TEXT) if language in ("bash", "console")]
SPANS = re.findall(r"`([^`]+)`", FENCE.sub("", TEXT))
COMMANDS = {
    name: {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for name, command in typer.main.get_command(app).commands.items()
}
SETTINGS = set(Config().with_methods(names()).flat())
SECTIONS = {setting.split(".")[0] for setting in SETTINGS}


def lines() -> Iterator[tuple[str, str]]:
    """Yield the command and the rest of every line that runs mgap, in blocks and in running text."""
    for text in (*SHELL_BLOCKS, *SPANS):
        for line in text.replace("\\\n", " ").splitlines() if text in SHELL_BLOCKS else [text]:
            for match in re.finditer(r"\bmgap(?:_cli)?\s+([a-z][a-z-]*)\b([^#;&|)]*)", line):
                yield match[1], " ".join(match[2].split())


LINES = sorted(set(lines()))


def test_every_command_is_shown():
    assert {name for name, _ in LINES} >= set(COMMANDS)


@pytest.mark.parametrize(("command", "words"), LINES)
def test_a_line_is_one_of_the_programs(command, words):
    assert command in COMMANDS
    options = set(re.findall(r"(?<!\S)(--?[a-z][a-z0-9-]*)", words))
    assert options <= COMMANDS[command] | {"--help"}
    assert set(re.findall(r"--set ([a-z_-]+\.[a-z_]+)=", words)) <= SETTINGS | {"smoothed.smoothing"}
    methods = re.findall(r"--method (\S+)", words)
    assert all(m in names() or ".py:" in m or m == "NAME" for m in methods)


@pytest.mark.parametrize("span", sorted({s for s in SPANS if s.startswith("--")}))
def test_an_option_exists(span):
    option = re.split(r"[\s=/,]", span)[0]
    assert any(option in options for options in COMMANDS.values()) or option in ("--only", "--rounds")


@pytest.mark.parametrize(
    "span",
    sorted({s for s in SPANS if re.match(r"[a-z_-]+\.[a-z_]+(=.*)?$", s) and s.split(".")[0] in SECTIONS}),
)
def test_a_setting_exists(span):
    assert (
        span.split("=")[0] in SETTINGS
        or (ROOT / "mgap_cli" / span).exists()
        or span.endswith((".pt", ".csv"))
    )


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"(?<![\w/.])(?:tests|mgap_cli|completions)/[\w./*-]*", TEXT)))
)
def test_a_path_exists(path):
    assert list(ROOT.glob(path.rstrip("/.")))


LINK = re.compile(r"\[[^\]]+\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")
LINKS = [(name, *link) for name, text in PAGES.items() for link in LINK.findall(FENCE.sub("", text))]


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize(("name", "target", "anchor"), LINKS, ids=lambda part: part or "here")
def test_a_link_leads_to_a_page_and_a_heading(name, target, anchor):
    folder = ROOT if name == "README" else ROOT / "mgap_cli" / "docs"
    assert not target or (folder / target).is_file()
    assert not anchor or anchor in anchors(PAGES[Path(target).stem if target else name])


ANSWERS = re.findall(
    r"^\| (.+\?) \| (.+) \|$", PAGES["contributing"].partition("## Where to change what")[2], re.MULTILINE
)


@pytest.mark.parametrize(("question", "answer"), ANSWERS, ids=[question for question, _ in ANSWERS])
def test_an_answer_of_contributing_names_what_its_files_have(question, answer):
    spans = re.findall(r"`([^`]+)`", answer)
    code = "".join((ROOT / span).read_text(encoding="utf-8") for span in spans if (ROOT / span).is_file())
    names = [part for span in spans if "/" not in span for part in span.split(".")]
    assert [name for name in names if not re.search(rf"\b{name}\b", code)] == []
