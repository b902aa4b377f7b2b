"""The contact sheet has the right clips, in their true colours, on the right axes."""

from __future__ import annotations

import dataclasses
import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from helpers.stores import CLASSES, PROTOCOL, ave_store, made, many, read
from matplotlib import image
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mgap_cli.data.clips import Clip, Dataset
from mgap_cli.data.store import Store, open_store
from mgap_cli.report.figures.contact_sheet import MOST_CLIPS, contact_sheet, sampled_rows
from mgap_cli.report.figures.gap import png_bytes


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(ave_store(tmp_path_factory.mktemp("ave"), keep_leaks=True))


def sounds(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_ylabel()]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_each_class_has_as_many_clips_and_stays_together(store):
    rows = sampled_rows(store)
    labels = store.labels[rows].tolist()
    assert labels == sorted(labels) and set(labels) == {0, 1, 2}
    assert {labels.count(c) for c in range(3)} == {4} and len(set(rows)) == len(rows)


def test_the_choice_depends_on_ids_only(store, tmp_path):
    chosen = {store.ids[i] for i in sampled_rows(store)}
    clips = [Clip(i, store.classes[store.labels[n]], str(store.splits[n])) for n, i in enumerate(store.ids)]
    turned = open_store(made(Dataset("x", clips[::-1], store.classes, reader=read), tmp_path / "s"))
    assert {turned.ids[i] for i in sampled_rows(turned)} == chosen


def test_more_classes_than_fit(tmp_path):
    store = open_store(made(many(70, 60, 7), tmp_path / "s"))
    rows = sampled_rows(store)
    assert len(rows) == len(set(rows)) == MOST_CLIPS == len(set(store.labels[rows]))
    assert store.labels[rows[0]] == 0 and store.labels[rows[-1]] == 59


def test_it_is_a_picture_of_what_is_stored(store):
    """Left halves are red in the first frame and green in the second: both are in the picture, no blue."""
    png = png_bytes(contact_sheet(store, [0]))
    assert png.startswith(b"\x89PNG\r\n")
    picture = image.imread(io.BytesIO(png))[:, :, :3]
    red, green, blue = (int((np.abs(picture - np.eye(3)[c]).max(axis=2) < 0.02).sum()) for c in range(3))
    assert red > 5000 and green > 5000 and blue == 0
    reds, greens = (np.argwhere(np.abs(picture - np.eye(3)[c]).max(axis=2) < 0.02)[:, 1] for c in (0, 1))
    assert reds.max() < greens.min(), "frames are in the order of time"


def test_axes_are_seconds_and_kilohertz(store):
    figure = contact_sheet(store, [0, 1])
    for axes in sounds(figure):
        assert axes.get_ylabel() == "kHz" and axes.get_xlim() == (0, 0.5) and axes.get_ylim() == (0, 4)
        (picture,) = axes.images
        left, right, low, high = picture.get_extent()
        levels = np.asarray(picture.get_array())
        peak = levels.mean(axis=1).argmax()  # the tone is of 1 kHz
        assert low + (peak + 0.5) * (high - low) / len(levels) == pytest.approx(1.0, abs=0.04)
        step = PROTOCOL.hop / PROTOCOL.sample_rate
        assert left == pytest.approx(-step / 2) and right == pytest.approx((levels.shape[1] - 0.5) * step)
        assert levels.max() == pytest.approx(0, abs=1) and picture.get_clim()[1] == 0
    assert sounds(figure)[-1].get_xlabel() == "time, s"


def test_low_rates_are_in_hertz(tmp_path):
    config = dataclasses.replace(PROTOCOL, sample_rate=2000)
    store = open_store(made(many(4, 2, 2), tmp_path / "s", config))
    (axes,) = sounds(contact_sheet(store, [0]))
    assert axes.get_ylabel() == "Hz" and axes.get_ylim() == (0, 1000)


def test_where_a_short_clip_is_repeated_is_marked(store):
    short, long = store.ids.index("f"), store.ids.index("e")
    figure = contact_sheet(store, [short, long])
    assert [[line.get_xdata()[0] for line in axes.lines] for axes in sounds(figure)] == [[0.3], []]
    assert any("dashed" in text for text in words(figure))
    assert not any("dashed" in text for text in words(contact_sheet(store, [long])))


def test_labels(store):
    rows = sampled_rows(store)
    said = words(contact_sheet(store, rows))
    for i in rows:
        assert store.ids[i] in said and str(store.splits[i]) in said
    assert set(CLASSES) <= set(said), "not read as mathematics or markup"
    assert f"store: 12 of {len(store)} clips, 3 of 3 classes" in said


def test_long_names_are_cropped_and_unusual_ones_are_drawn(tmp_path):
    ids = ["b/a/long/folder" * 20 + "/the-end", "b日本語", "b\nline", "b$x^{$"]
    clips = [Clip(i, "word " * 60, "train") for i in ids]
    store = open_store(made(Dataset("x", clips, ("word " * 60,), reader=read), tmp_path / "s"))
    figure = contact_sheet(store, range(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert png_bytes(figure)
    assert max(len(text) for text in words(figure) if "…" in text) < 120
    assert any(text.endswith("/the-end") for text in words(figure)) and "b\\nline" in words(figure)
    width = figure.bbox.width
    assert all(text.get_window_extent().x1 <= width for text in figure.texts)


def test_four_of_many_frames_and_silence(tmp_path):
    def silent(clip, config):
        frames = np.full((config.frames, config.frame_size, config.frame_size, 3), 7, np.uint8)
        return frames, np.zeros(4000, np.float32)

    config = dataclasses.replace(PROTOCOL, frames=9)
    dataset = Dataset("x", [Clip("b", "y", "train")], ("y",), reader=silent)
    store = open_store(made(dataset, tmp_path / "s", config))
    figure = contact_sheet(store, [0])
    assert any(text.startswith("4 of 9 frames") for text in words(figure))
    one = open_store(made(dataset, tmp_path / "one", dataclasses.replace(PROTOCOL, frames=1)))
    assert any(text.startswith("1 frame of 16 x 16 pixels;") for text in words(contact_sheet(one, [0])))
    assert png_bytes(figure)


def test_a_damaged_store_still_has_a_picture(tmp_path):
    path: Path = made(many(4, 2, 2), tmp_path / "s")
    audio = np.load(path / "audio.npy", mmap_mode="r+")
    audio[0], audio[1, 0, 0] = np.nan, np.inf
    audio.flush()
    assert png_bytes(contact_sheet(open_store(path), [0, 1, 2]))
