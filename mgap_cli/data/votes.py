"""What people made of CREMA-D's clips: processedResults/tabulatedVotes.csv of its repository.

A row a clip and condition. Rows are numbered from 100001 where listeners had the voice alone, from 200001
the face alone, from 300001 both. Columns A, D, F, H, N, S count the votes for each emotion (Cao et al.,
"CREMA-D: Crowd-Sourced Emotional Multimodal Actors Dataset", IEEE Trans. Affective Computing 5, 2014).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mgap_cli.data.tables import read_table
from mgap_cli.errors import UnfitError

EMOTIONS = "ADFHNS"  # the first letters of ANG, DIS, FEA, HAP, NEU, SAD
CONDITIONS = ("voice", "face", "both")
_FIRST = 100_000  # voice rows are numbered from 1 above it, face rows from 1 above twice that, and so on


@dataclass(frozen=True)
class Votes:
    """Clip to (votes for the emotion that the actor was to show, all votes), by condition."""

    voice: dict[str, tuple[int, int]]
    face: dict[str, tuple[int, int]]
    both: dict[str, tuple[int, int]]


def read_votes(path: Path) -> Votes:
    """Read tabulatedVotes.csv. UnfitError if it is missing, damaged, or another file."""
    header, rows = read_table(path)
    lacking = [name for name in (*EMOTIONS, "fileName") if name not in header]
    if lacking:
        raise UnfitError(
            f"{path}: no column {', '.join(lacking)}.",
            "--human takes CREMA-D's processedResults/tabulatedVotes.csv.",
        )
    found: tuple[dict[str, tuple[int, int]], ...] = ({}, {}, {})
    for line, row in rows:
        clip, number = row["fileName"], row[header[0]]
        emotion = clip.split("_")[2][:1] if clip.count("_") >= 3 else ""
        try:
            condition = int(number) // _FIRST - 1
            counts = {letter: int(row[letter]) for letter in EMOTIONS}
        except ValueError as error:
            raise UnfitError(f"{path}: line {line}: {error}.") from error
        if condition not in range(len(CONDITIONS)) or emotion not in counts or min(counts.values()) < 0:
            raise UnfitError(f"{path}: line {line} is no row of votes ({number}, {clip}).")
        if clip in found[condition]:
            raise UnfitError(f"{path}: line {line}: {clip} stands twice for {CONDITIONS[condition]}.")
        found[condition][clip] = counts[emotion], sum(counts.values())
    return Votes(*found)
