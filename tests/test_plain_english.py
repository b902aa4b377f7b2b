"""Help, messages, docstrings, comments and pages have none of the phrases that are hard to understand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.prose import FILES, ROOT, prose

READ = [path for path in FILES if path != Path(__file__)]

_UNIT = (
    "epoch|sample|row|method|line|file|clip|class|stage|step|batch|bin|modality|process|value|member|"
    "name|module|item|split|checkpoint|page|session|column|seed"
)
_COUNTED = "samples|steps|frames|clips|tries|votes|lines|rows|ms|[Bb]locks|BasicBlocks|figures|points|numbers"
PHRASES = {
    rf"\b(?:an?|one|two|\d+|few) (?!of )[a-zA-Z]+ an? (?:{_UNIT})\b": "one line per epoch",
    rf"\b(?:{_COUNTED}|Hz) an? (?:{_UNIT}|second)\b": "samples per bin",
    r"imbalance away": "reduce the imbalance with the adaptive loss",
    r"[Hh]ow the features meet": "fusion layer",
    r"[Oo]f weights, order": "random seed for initialisation, data order and augmentation",
    r"[Ww]hich epoch becomes": "which epoch to keep",
    r"\b(?:stands?|stood)\b(?!-ins?| (?:for|in for)\b)": "is, are duplicated, is written",
    r"\banew\b": "again",
    r"\bapiece\b": "each",
    r"\bdear\b": "expensive",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\btold\b(?! apart)": "reported, or: distinguished",
    r"\bwhom\b": "who, or another sentence",
    r"\bmeanwhile held back\b": "blocked until then",
    r"population apart": "a separate group",
    r"(?<!\b[Tt]here )\b(?:is|was) no (?:number|folder|file|checkpoint|store|modality|name|bug|method)\b": (
        "is not a number"
    ),
    r"\bthat (?:is|are) none\b": "invalid scores",
    r"already holds this stage": "was trained with A; this command asks for B",
    r"\bone that was not\b": "an uninterrupted run",
    r"[Ss]topped on its way|\bby whatever\b": "if it is interrupted for any reason",
    r"\bhonestly\b|\bcame of it\b": "reports whether it helped",
    r"\bdefect of mgap\b": "what is wrong, and what to do",
    r"\bat hand\b": "available, or: current",
    r"\b(?:but|save) for\b": "except",
    r"\b(?:likewise|thereby|hitherto|whereas)\b": "and the same, by this, until now, but",
    r"\bof (?:ones|one's) own\b": "the user's own",
    r"\bknows? better\b|\bcosts? itself\b": "say what happens",
}


def phrases_in(path: Path) -> list[str]:
    """Return the place of each such phrase in a file, and what to write instead."""
    return [
        f"{path.relative_to(ROOT)}:{line}: {match[0]!r}; write such as: {better}"
        for line, text in prose(path)
        for pattern, better in PHRASES.items()
        for match in [re.search(pattern, " ".join(text.split()))]
        if match
    ]


@pytest.mark.parametrize(
    "folder", sorted({path.relative_to(ROOT).parts[:2] for path in READ}), ids=lambda parts: "/".join(parts)
)
def test_a_stranger_reads_it_once(folder):
    files = [path for path in READ if path.relative_to(ROOT).parts[:2] == folder]
    assert not [phrase for path in files for phrase in phrases_in(path)]


@pytest.mark.parametrize(
    "text",
    [
        "metrics.jsonl, a line an epoch",
        "stands twice",
        "to make it anew",
        "'x' is no number",
        "for scores that are none",
        "Stopped on its way, by whatever",
        "says honestly what came of it",
        "still has a population apart",
        "needs a GPU a process",
        "the paper's text was not at hand",
    ],
)
def test_the_phrases_are_found(text):
    assert any(re.search(pattern, text) for pattern in PHRASES)


def test_plain_sentences_pass():
    text = "There is no checkpoint in the folder. Colours can be told apart. A letter stands for a class."
    assert not any(re.search(pattern, text) for pattern in PHRASES)
