"""The colours of every figure: one colour means one thing, in all of them.

Okabe and Ito's palette (2008), told apart by colour-blind readers, is for what is compared most often; the
purple is darker, to be legible as text. Methods take Paul Tol's muted palette (2021), which shares no colour
with it.
"""

from __future__ import annotations

INK = "#000000"  # axes, borders, the fused head, what is drawn from all of the data
GREY = "#999999"  # samples as they are, counts, chance
DIM = "#555555"  # small text

AUDIO = "#0072B2"  # blue: the audio head, and the first of two modalities
VISUAL = "#D55E00"  # vermilion: the visual head, and the second of two modalities
BALANCED = "#009E73"  # green: the balanced component, samples that became balanced
IMBALANCED = "#E69F00"  # amber: the imbalanced component, samples that became imbalanced
POSTERIOR = "#A0417B"  # purple: the posterior of imbalance, and what the model alone finds by it
PEOPLE = "#56B4E9"  # sky blue: what listeners find

ROLE_COLOURS = {
    "balanced": BALANCED,
    "imbalanced": IMBALANCED,
    "audio-dominated": AUDIO,
    "visual-dominated": VISUAL,
}
ROLE_DASHES = {"balanced": "--", "imbalanced": "-.", "audio-dominated": "-.", "visual-dominated": ":"}

Style = tuple[str, str, str]  # colour, dashes, marker
HEAD_STYLES: dict[str, Style] = {
    "fused": (INK, "-", "o"),
    "audio": (AUDIO, "--", "s"),
    "visual": (VISUAL, "-.", "^"),
}
METHOD_STYLES: tuple[Style, ...] = (
    *(("#332288", "-", "o"), ("#CC6677", "--", "s"), ("#44AA99", "-.", "^"), ("#882255", ":", "D")),
    *(("#999933", "-", "v"), ("#88CCEE", "--", "P"), ("#117733", "-.", "X"), ("#DDCC77", ":", "*")),
)
SPLIT_COLOURS = {"train": INK, "val": "#8C6D31", "test": "#C51B7D"}
SHARES = "Greys"  # matplotlib's colour map of a confusion matrix, from 0 to all
