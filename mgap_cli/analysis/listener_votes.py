"""Listeners' votes on CREMA-D's clips: processedResults/tabulatedVotes.csv of its repository.

One row per clip and condition. Rows are numbered from 100001 for the voice alone, from 200001 for the face
alone, and from 300001 for both. Columns A, D, F, H, N, S count the votes for each emotion (Cao et al.,
"CREMA-D: Crowd-Sourced Emotional Multimodal Actors Dataset", IEEE Trans. Affective Computing 5, 2014).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mgap_cli.data.tables import read_table
from mgap_cli.errors import UnfitError
from mgap_cli.files import require_regular_file

EMOTIONS = "ADFHNS"  # the first letters of ANG, DIS, FEA, HAP, NEU, SAD
CONDITIONS = ("voice", "face", "both")
_COUNT = re.compile(r"[0-9]{1,9}")
_FIRST = 100_000  # voice rows are numbered above it, face rows above twice it, both above thrice


@dataclass(frozen=True)
class Votes:
    """(votes for the intended emotion, all votes) by condition and clip."""

    voice: dict[str, tuple[int, int]]
    face: dict[str, tuple[int, int]]
    both: dict[str, tuple[int, int]]


def read_votes(path: Path) -> Votes:
    """Read tabulatedVotes.csv.

    Raises UsageError if there is no such regular file; UnfitError if it is damaged, or another file.
    """
    require_regular_file(path, "CREMA-D's processedResults/tabulatedVotes.csv")
    header, rows = read_table(path)
    lacking = [name for name in (*EMOTIONS, "fileName") if name not in header]
    if lacking:
        raise UnfitError(
            f"{path}: no column {', '.join(map(repr, lacking))}.",
            "--human needs CREMA-D's processedResults/tabulatedVotes.csv.",
        )
    votes: tuple[dict[str, tuple[int, int]], ...] = ({}, {}, {})
    for line, row in rows:
        clip, first = row["fileName"], header[0]
        emotion = clip.split("_")[2][:1] if clip.count("_") >= 3 else ""
        for name in (first, *EMOTIONS):
            if not _COUNT.fullmatch(row[name]):
                raise UnfitError(f"{path}: line {line}: column {name!r} has {row[name][:40]!r}, not a count.")
        condition = int(row[first]) // _FIRST - 1
        counts = {letter: int(row[letter]) for letter in EMOTIONS}
        if condition not in range(len(CONDITIONS)) or emotion not in counts:
            raise UnfitError(f"{path}: line {line} is not a row of votes ({row[first]}, {clip!r}).")
        if clip in votes[condition]:
            raise UnfitError(f"{path}: line {line}: {clip!r} has two rows for {CONDITIONS[condition]}.")
        votes[condition][clip] = counts[emotion], sum(counts.values())
    return Votes(*votes)
