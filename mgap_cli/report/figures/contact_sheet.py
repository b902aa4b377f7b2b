"""A page of clips with the frames of each clip beside its spectrogram, as the network gets them."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mgap_cli.config import DataConfig
from mgap_cli.data.media import filter_banks
from mgap_cli.data.store import Store
from mgap_cli.report.layout import printable, shortened
from mgap_cli.report.palette import DIM, INK, SPLIT_COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

CLIPS = 12  # number of clips, rounded to the same number of each class
MOST_CLIPS = 48
MOST_FRAMES = 4  # of one clip
DYNAMIC_RANGE = 80.0  # dB

# Inches.
PAGE, MARGIN, HEADER = 19.0, 0.35, 1.05
PICTURE, SOUND = 1.35, 2.9  # side of a frame, width of a spectrogram
LABEL, AXIS, GUTTER = 0.48, 0.62, 0.4  # above a cell, left of its spectrogram, between cells
LETTER = 0.085  # width of a letter of 10 points, about
DPI = 110


@dataclass(frozen=True)
class _Page:
    """The grid of cells, and the figure coordinates of boxes given in inches from the upper left corner."""

    cells: int
    frames: int

    @property
    def cell(self) -> tuple[float, float]:
        return self.frames * PICTURE + AXIS + SOUND + GUTTER, LABEL + PICTURE + GUTTER

    @property
    def columns(self) -> int:
        return max(1, min(self.cells, int(PAGE / self.cell[0])))

    @property
    def rows(self) -> int:
        return -(-self.cells // self.columns)

    @property
    def size(self) -> tuple[float, float]:
        width, height = self.cell
        return max(8.0, 2 * MARGIN + self.columns * width - GUTTER), HEADER + MARGIN + self.rows * height

    def corner(self, number: int) -> tuple[float, float]:
        """Return the left and upper edge of a cell, filled row by row."""
        width, height = self.cell
        return MARGIN + number % self.columns * width, HEADER + number // self.columns * height

    def point(self, x: float, y: float) -> tuple[float, float]:
        return x / self.size[0], 1 - y / self.size[1]

    def box(self, x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
        """Return (left, bottom, width, height) for `Figure.add_axes`; `y` is the upper edge."""
        return *self.point(x, y + height), width / self.size[0], height / self.size[1]


def sampled_rows(store: Store) -> list[int]:
    """Choose the positions of the clips to show: equally many of each class, in the order of the classes.

    The choice depends only on the ids, so stores of the same clips show the same ones.
    """
    of_class: dict[int, list[int]] = {}
    for i in sorted(range(len(store)), key=lambda i: (zlib.crc32(store.ids[i].encode()), store.ids[i])):
        of_class.setdefault(int(store.labels[i]), []).append(i)
    each = max(1, CLIPS // len(of_class))
    chosen = [i for label in sorted(of_class) for i in sorted(of_class[label][:each])]
    spread = np.linspace(0, len(chosen) - 1, min(len(chosen), MOST_CLIPS))
    return [chosen[i] for i in spread.round().astype(int)]


def contact_sheet(store: Store, rows: Sequence[int]) -> Figure:
    """Draw the clips at the positions `rows`: frames in order of time, then the log-spectrogram.

    Loudness has one scale on the whole page: decibels below the loudest bin of the clips shown.
    """
    from matplotlib.figure import Figure

    page = _Page(len(rows), min(store.frames.shape[1], MOST_FRAMES))
    figure = Figure(figsize=page.size, dpi=DPI)
    scale = _scale(store, rows)
    for number, i in enumerate(rows):
        _label(figure, page, number, store, i)
        left, top = page.corner(number)
        top += LABEL
        pictures = figure.add_axes(page.box(left, top, page.frames * PICTURE, PICTURE))
        pictures.imshow(_strip(store.frames[i], page.frames))
        pictures.axis("off")
        left += page.frames * PICTURE + AXIS
        sound = figure.add_axes(page.box(left, top, SOUND, PICTURE))
        image = _draw_sound(sound, store, i, scale)
        if number + page.columns >= len(rows):
            sound.set_xlabel("time, s", fontsize=9, labelpad=1)
    _head(figure, page, store, rows)
    strip = figure.add_axes(page.box(page.size[0] - MARGIN - SOUND, 0.42, SOUND, 0.13))
    figure.colorbar(image, cax=strip, orientation="horizontal")
    strip.tick_params(labelsize=8, pad=1)
    strip.set_title("dB, 0 is the loudest on this page", fontsize=9, pad=3)
    return figure


def clip_figures(store: Store, rows: Sequence[int]) -> Iterator[Figure]:
    """Draw each clip as a separate figure without text: frames, then the log-spectrogram.

    All figures have the same scale of loudness, as on a contact sheet.
    """
    from matplotlib.figure import Figure

    frames = min(store.frames.shape[1], MOST_FRAMES)
    wide, high = frames * PICTURE + AXIS + SOUND + 0.15, PICTURE + GUTTER + 0.15
    scale = _scale(store, rows)
    for i in rows:
        figure = Figure(figsize=(wide, high), dpi=DPI)
        bottom, height = GUTTER / high, PICTURE / high
        pictures = figure.add_axes((0.0, bottom, frames * PICTURE / wide, height))
        pictures.imshow(_strip(store.frames[i], frames))
        pictures.axis("off")
        left = frames * PICTURE + AXIS
        sound = figure.add_axes((left / wide, bottom, SOUND / wide, height))
        _draw_sound(sound, store, i, scale)
        sound.set_xlabel("time, s", fontsize=9, labelpad=1)
        yield figure


def _head(figure: Figure, page: _Page, store: Store, rows: Sequence[int]) -> None:
    config, (_, count, height, width, _) = store.data_config, store.frames.shape
    folder, classes = store.path.resolve().name, {int(store.labels[i]) for i in rows}
    clips = f"{len(rows)} of {len(store)} clips, {len(classes)} of {len(store.classes)} classes"
    counted = f"{page.frames} of {count}" if page.frames < count else f"{count}"
    frames = f"{counted} frame" if count == 1 else f"{counted} frames"
    lines = [
        f"{frames} of {height} x {width} pixels; {config.seconds:g} s of sound at {config.sample_rate} Hz",
        "dashed: the sound of a shorter clip ends, and starts again",
    ]
    used = lines if any(_repeats_at(store, i) for i in rows) else lines[:1]
    figure.text(
        *page.point(MARGIN, 0.3), f"{printable(folder)}: {clips}", fontsize=15, va="top", parse_math=False
    )
    figure.text(*page.point(MARGIN, 0.58), "\n".join(used), fontsize=9, va="top", linespacing=1.4)


def _label(figure: Figure, page: _Page, number: int, store: Store, i: int) -> None:
    """Write the class above a clip, and below it the id, with the split on the right."""
    left, top = page.corner(number)
    width = page.cell[0] - GUTTER
    split = printable(str(store.splits[i]))
    name = shortened(printable(store.classes[store.labels[i]]), int(width / (1.2 * LETTER)))
    id_ = shortened(printable(store.ids[i]), int((width - 0.6) / (0.85 * LETTER)), middle=True)
    first, second = page.point(left, top + 0.2), page.point(left, top + 0.4)
    end, colour = page.point(left + width, top + 0.4), SPLIT_COLOURS.get(split, INK)
    figure.text(*first, name, fontsize=11, weight="bold", parse_math=False)
    figure.text(*second, id_, fontsize=8.5, color=DIM, parse_math=False)
    figure.text(*end, split, fontsize=10, weight="bold", color=colour, ha="right", parse_math=False)


def _strip(frames: np.ndarray, count: int) -> np.ndarray:
    """Return `count` of the frames (T, H, W, 3), evenly chosen, side by side with white between."""
    chosen = frames[((np.arange(count) + 0.5) * len(frames) / count).astype(int)]
    height, width = chosen.shape[1:3]
    gap = np.full((height, max(1, width // 40), 3), 255, np.uint8)
    parts = [part for frame in chosen for part in (frame, gap)]
    return np.concatenate(parts[:-1], axis=1)


def _draw_sound(axes: Axes, store: Store, i: int, scale: tuple[float, float]) -> AxesImage:
    """Draw a clip's spectrogram over seconds and hertz; `scale` as `_scale` returns it."""
    config = store.data_config
    bins, columns = store.audio.shape[1:]
    if config.audio == "fbank":
        step, band, unit, name, top = filter_banks.SHIFT_MS / 1000, 1.0, 1.0, "mel bin", float(bins)
    else:
        step, band = config.hop / config.sample_rate, config.sample_rate / config.n_fft  # s, Hz
        unit, name = (1000.0, "kHz") if config.sample_rate >= 4000 else (1.0, "Hz")
        top = config.sample_rate / 2 / unit
    image = axes.imshow(
        _decibels(store.audio[i], config) - scale[1],
        extent=(-step / 2, (columns - 0.5) * step, -band / 2 / unit, (bins - 0.5) * band / unit),
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=scale[0] - scale[1],
        vmax=0,
    )
    axes.set_xlim(0, config.seconds)
    axes.set_ylim(0, top)
    axes.set_ylabel(name, fontsize=9, labelpad=2)
    axes.tick_params(labelsize=8, length=2, pad=2)
    if (end := _repeats_at(store, i)) is not None:
        axes.axvline(end, color="white", linestyle="--", linewidth=1.2)
    return image


def _scale(store: Store, rows: Sequence[int]) -> tuple[float, float]:
    """Return the quietest and the loudest level that the colours tell apart, in dB."""
    levels = _decibels(np.stack([store.audio[i] for i in rows]), store.data_config)
    loudest = float(levels.max())
    return max(loudest - DYNAMIC_RANGE, min(float(np.percentile(levels, 1)), loudest - 1)), loudest


def _decibels(stored: np.ndarray, config: DataConfig) -> np.ndarray:
    """Return spectrograms of a store as dB; values that are not finite, as in a damaged store, count as 0.

    They are natural logarithms: of magnitudes, or of energies that were standardised.
    """
    finite = np.nan_to_num(stored.astype(np.float32), posinf=0, neginf=0)
    if config.audio == "fbank":
        return np.asarray(10 / math.log(10) * (finite * filter_banks.SD + filter_banks.MEAN))
    return np.asarray(20 / math.log(10) * finite)


def _repeats_at(store: Store, i: int) -> float | None:
    """Return the second at which a clip's own sound ends; None if the sound is not repeated."""
    if store.data_config.audio == "fbank":
        return None
    duration = float(store.columns["duration"][i] or "inf")
    return duration if duration < store.data_config.seconds else None
