"""The colours of every figure. One colour means one thing in all figures.

The most frequent comparisons use the palette of Okabe and Ito (2008), which colour-blind readers can
distinguish; its purple is darker here, so that it is legible as text. Methods use Paul Tol's muted palette
(2021), which shares no colour with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle

from mgap_cli.evaluation.metrics import DECISION
from mgap_cli.gap.mixture import DOMINATED
from mgap_cli.gap.scores import FUSED
from mgap_cli.modalities.audio_visual import AUDIO_VISUAL

INK = "#000000"  # axes, borders, the fused head, and curves of all the data
GREY = "#999999"  # samples without a group, counts, chance
DIM = "#555555"  # small text

BALANCED = "#009E73"  # green: the balanced component, samples that became balanced
IMBALANCED = "#E69F00"  # amber: the imbalanced component, samples that became imbalanced
POSTERIOR = "#A0417B"  # purple: the posterior of imbalance, and clips that are imbalanced for the model only
PEOPLE = "#56B4E9"  # sky blue: clips that are imbalanced for listeners only

Style = tuple[str, str, str]  # colour, dashes, marker
FUSED_STYLE: Style = (INK, "-", "o")
DECISION_STYLE: Style = ("#4D7C0F", "-", "*")  # olive: the prediction of a decision rule
MODALITY_STYLES: tuple[Style, ...] = (  # blue: audio, or the first modality; vermilion: visual, or the second
    *(("#0072B2", "--", "s"), ("#D55E00", "-.", "^")),
    *(("#6A51C7", ":", "D"), ("#7F3B08", "-", "v"), ("#00798C", "--", "P"), ("#B0006D", "-.", "X")),
)
METHOD_STYLES: tuple[Style, ...] = (
    *(("#332288", "-", "o"), ("#CC6677", "--", "s"), ("#44AA99", "-.", "^"), ("#882255", ":", "D")),
    *(("#999933", "-", "v"), ("#88CCEE", "--", "P"), ("#117733", "-.", "X"), ("#DDCC77", ":", "*")),
)
SPLIT_COLOURS = {"train": INK, "val": "#8C6D31", "test": "#C51B7D"}
SHARES = "Greys"  # matplotlib's colour map of a confusion matrix, from 0 to all


def head_styles(heads: Iterable[str]) -> dict[str, Style]:
    """Return the style of each head, a modality or the fused one, in the order of the store's modalities.

    Audio and visual always keep their styles. Other modalities get the remaining styles in order, from the
    start again if there are more modalities than styles.
    """
    modalities = [head for head in dict.fromkeys(heads) if head not in (FUSED, DECISION)]
    built_in = {m.name: style for m, style in zip(AUDIO_VISUAL, MODALITY_STYLES, strict=False)}
    styles = {name: style for name, style in built_in.items() if name in modalities}
    left = cycle([style for style in MODALITY_STYLES if style not in styles.values()])
    return {
        FUSED: FUSED_STYLE,
        DECISION: DECISION_STYLE,
        **{name: styles.get(name) or next(left) for name in modalities},
    }


def role_style(role: str, modalities: Iterable[str]) -> Style:
    """Return the style of a mixture's component by its role, such as balanced or audio-dominated."""
    if role == "balanced":
        return BALANCED, "--", "o"
    if role == "imbalanced":
        return IMBALANCED, "-.", "s"
    colour, _, marker = head_styles(modalities)[role.removesuffix(DOMINATED)]
    return colour, "-." if marker == "s" else ":", marker
