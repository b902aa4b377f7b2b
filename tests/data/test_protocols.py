"""Protocols of the literature: presets, filter banks, crops, and stores of earlier versions."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.media import write_media
from helpers.program import mgap, sets

from mgap_cli.config import Config, DataConfig, preset, protocol_text
from mgap_cli.data.clips import Clip
from mgap_cli.data.media.decode import read_media
from mgap_cli.data.media.filter_banks import MEAN, SD, log_filter_banks
from mgap_cli.data.media.spectrograms import spectrogram_shape
from mgap_cli.data.store import LATER_SETTINGS, open_store, plain_protocol, recorded_protocol
from mgap_cli.errors import UsageError

SMALL = ("data.frame_size=32", "data.val_share=0")
CREMAD = ["1001_DFA_ANG_XX", "1002_DFA_HAP_XX", "1003_DFA_SAD_XX", "1004_DFA_NEU_XX"]


@pytest.fixture(scope="module")
def cremad(tmp_path_factory):
    """A folder in CREMA-D's layout: FLV files beside WAV files of 0.7 s."""
    root = tmp_path_factory.mktemp("cremad")
    for number, name in enumerate(CREMAD):
        write_media(root / "VideoFlash" / f"{name}.flv", seconds=0.7, rate=44_100)
        write_media(root / "AudioWAV" / f"{name}.wav", seconds=0.7, rate=16_000, hertz=300 + 200 * number)
    (root / "train.csv").write_text("".join(f"{name},{name[9:12]}\n" for name in CREMAD[:3]))
    (root / "test.csv").write_text(f"{CREMAD[3]},NEU\n")
    return root


def prepare(root, out, *words):
    lists = ["--split", root / "train.csv", "--split", root / "test.csv"]
    return mgap("prepare", "cremad", root, *lists, "-o", out, "--workers", 1, *sets(*SMALL), *words)


def kaldi_energies(wave: np.ndarray, rate: int, bins: int) -> np.ndarray:
    """Return log mel energies (columns, bins) by Kaldi's definition, computed with numpy in float64."""
    size, shift = rate * 25 // 1000, rate // 100
    padded = 1 << (size - 1).bit_length()
    wave = wave.astype(np.float64) - wave.mean()
    windows = np.lib.stride_tricks.sliding_window_view(wave, size)[::shift]
    windows = windows - windows.mean(axis=1, keepdims=True)
    before = np.concatenate([windows[:, :1], windows[:, :-1]], axis=1)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / (size - 1))
    power = np.abs(np.fft.rfft((windows - 0.97 * before) * hann, padded)) ** 2

    def mel(hertz):
        return 1127 * np.log(1 + np.asarray(hertz) / 700)

    edges = np.linspace(mel(20), mel(rate / 2), bins + 2)
    at = mel(np.arange(padded // 2) * rate / padded)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    weights = np.maximum(0, np.minimum((at - left) / (centre - left), (right - at) / (right - centre)))
    return np.log(np.maximum(power[:, :-1] @ weights.T, np.finfo(np.float32).eps))


@pytest.mark.parametrize(("rate", "bins"), [(16_000, 128), (8000, 23)])
def test_filter_banks_are_kaldis_and_shorter_sound_is_filled_with_zeros(rate, bins):
    wave = np.random.default_rng(0).normal(0, 0.1, rate // 2).astype(np.float32) + 0.05
    config = DataConfig(audio="fbank", sample_rate=rate, seconds=1.0, mel_bins=bins)
    banks = log_filter_banks(wave, config)
    assert banks.shape == spectrogram_shape(config) == (bins, 100) and banks.dtype == np.float16
    expected = kaldi_energies(wave, rate, bins)
    restored = banks.T.astype(np.float64) * SD + MEAN
    np.testing.assert_allclose(restored[: len(expected)], expected, atol=0.02)
    np.testing.assert_allclose(restored[len(expected) :], 0, atol=0.01)


def test_long_sound_is_cut_and_empty_sound_is_refused():
    config = DataConfig(audio="fbank", sample_rate=8000, seconds=0.3, mel_bins=20)
    wave = np.random.default_rng(1).normal(0, 0.1, 8000).astype(np.float32)
    assert log_filter_banks(wave, config).shape == (20, 30)
    assert np.isfinite(log_filter_banks(np.full(3000, np.nan, np.float32), config)).all()
    assert (log_filter_banks(wave[:100], config) == np.float16(-MEAN / SD)).all()  # less than one window
    with pytest.raises(ValueError, match="empty"):
        log_filter_banks(wave[:0], config)


def test_cremad_fbank_from_real_media_to_evaluation(cremad, tmp_path):
    done = prepare(cremad, tmp_path / "s", "--preset", "cremad-fbank")
    assert done.code == 0, done.err
    store = open_store(tmp_path / "s")
    assert store.audio.shape == (4, 128, 1024) and store.frames.shape[1] == 3
    loudest = store.audio[:, :, :60].astype(np.float32).mean(axis=2).argmax(axis=1)
    assert (np.diff(loudest) > 0).all(), "higher tones have higher mel bins"
    assert (store.audio[:, :, 80:] == np.float16(-MEAN / SD)).all(), "zeros after 0.7 s, not repeated sound"
    tables = mgap("inspect", tmp_path / "s", "--plot").out
    assert "cremad-fbank, but with data.frame_size 32" in tables and "Kaldi log mel filter banks" in tables
    tiny = sets("model.encoder=resnet10", "model.width=16", "augment.image_size=32", "evaluate.bootstrap=20")
    line = ["train", tmp_path / "s", "--method", "joint-heads", "--epochs", 1, "--select", "last"]
    assert mgap(*line, "-o", tmp_path / "r", *tiny).code == 0
    settings = (tmp_path / "r" / "config.yaml").read_text()
    assert "audio: fbank" in settings and "mel_bins: 128" in settings
    document = mgap("evaluate", tmp_path / "r" / "train.pt", "--robustness", "--json", *tiny[-2:]).json()
    assert "audio missing" in json.dumps(document) and "audio noise" not in json.dumps(document)


def test_cremad_20s_repeats_the_sound_and_brings_its_training_settings(cremad, tmp_path):
    done = prepare(cremad, tmp_path / "s", "--preset", "cremad-20s")
    assert done.code == 0, done.err
    audio = open_store(tmp_path / "s").audio.astype(np.float32)
    assert audio.shape == (4, 257, 1250)
    period = 0.7 * 22_050 / 353  # columns
    first, tenth = audio[:, :, 5:30], audio[:, :, 5 + round(10 * period) :][:, :, :25]
    assert np.corrcoef(first.ravel(), tenth.ravel())[0, 1] > 0.95
    line = ["train", tmp_path / "s", "--method", "joint-heads", "--dry-run", "--json", "-o", tmp_path / "r"]
    assert mgap(*line).json()["epochs"] == preset("cremad-20s").train.epochs == 200
    again = prepare(cremad, tmp_path / "s")
    again.fails(3, "--preset 'cremad-20s' -> None")
    assert "protocol" in mgap("inspect", tmp_path / "s").out


def test_an_unknown_preset_is_named_with_a_suggestion(cremad, tmp_path):
    prepare(cremad, tmp_path / "s", "--preset", "cremad-fbnk").fails(2, "cremad-fbnk", "cremad-fbank")


def test_protocols_in_words():
    data = preset("cremad").data
    assert protocol_text("cremad", data) == "cremad"
    changed = Config(data=data).updated({"data.crop": "0.1,0.2,0.5,0.5", "data.seed": 3}, "here").data
    assert protocol_text("cremad", changed) == "cremad, but with data.crop 0.1,0.2,0.5,0.5"
    assert protocol_text("manifest", data) == "no preset"


def test_a_store_of_an_earlier_version_stays_readable_and_has_the_same_fingerprint(cremad, tmp_path):
    """Newer settings are not recorded if they have their defaults, so the document does not change."""
    assert not {*recorded_protocol(DataConfig())} & {*LATER_SETTINGS}
    assert prepare(cremad, tmp_path / "s").code == 0
    meta = json.loads((tmp_path / "s" / "store.json").read_text())
    earlier = ["frames", "frame_size", "sample_rate", "seconds", "n_fft", "hop", "val_share", "seed"]
    assert sorted(meta["protocol"]) == sorted(earlier)
    store = open_store(tmp_path / "s")
    assert plain_protocol(store.data_config) == {**plain_protocol(DataConfig()), **meta["protocol"]}
    same = prepare(cremad, tmp_path / "s")
    assert same.code == 0 and "finished already" in same.err
    prepare(cremad, tmp_path / "s", *sets("data.mel_bins=64")).fails(3, "data.mel_bins 128 -> 64")


@pytest.mark.parametrize("suffix", [".mp4", ".mpg"])
def test_a_crop_is_that_part_of_the_frame(tmp_path, suffix):
    """The upper half of the clip is red and grows with time, and its lower half is blue."""
    path = write_media(tmp_path / f"a{suffix}", size=(160, 128))
    for crop, colour in (((0.25, 0.0, 0.5, 0.4), 0), ((0.0, 0.6, 0.5, 0.4), 2)):
        frames, _ = read_media(Clip("a", "x", "train", path), DataConfig(frames=8, frame_size=24, crop=crop))
        assert frames.shape == (8, 24, 24, 3)
        others = [c for c in range(3) if c != colour]
        assert frames[-1, ..., colour].mean() > 180 and frames[..., others].mean() < 40
        assert (np.diff(frames[..., 0].mean(axis=(1, 2))) > -3).all(), "frames in order of time"
    whole, _ = read_media(Clip("a", "x", "train", path), DataConfig(frames=1, frame_size=96))
    part, _ = read_media(
        Clip("a", "x", "train", path), DataConfig(frames=1, frame_size=48, crop=(0.5, 0.25, 0.5, 0.5))
    )
    assert np.abs(whole[:, 24:72, 48:].astype(int) - part).mean() < 2


def test_a_crop_of_real_clips_is_a_part_of_the_whole_frame(shared_data):
    path = sorted((shared_data / "grid" / "clips").glob("*.mp4"))[0]
    whole, wave = read_media(Clip("a", "x", "train", path), DataConfig(frames=3, frame_size=200))
    crop = DataConfig(frames=3, frame_size=100, crop=(0.25, 0.5, 0.5, 0.5))
    part, same = read_media(Clip("a", "x", "train", path), crop)
    assert np.abs(whole[:, 100:, 50:150].astype(int) - part).mean() < 1 and np.array_equal(wave, same)


def test_candidates_are_stored_and_inspect_says_how_many_are_drawn(cremad, tmp_path):
    done = prepare(cremad, tmp_path / "s", "--preset", "cremad-3frames")
    assert done.code == 0, done.err
    red = open_store(tmp_path / "s").frames[..., 0].mean(axis=(2, 3))
    assert red.shape == (4, 6) and (np.diff(red, axis=1) > 0).all(), "six frames in order of time"
    tables = mgap("inspect", tmp_path / "s").out
    assert "3 drawn from 6 of 32 x 32 pixels" in tables and "cremad-3frames, but with" in tables
    with pytest.raises(UsageError, match=r"data\.candidates is 2: less than data\.frames, 3"):
        Config().updated({"data.frames": 3, "data.candidates": 2}, "here")


@pytest.mark.parametrize("crop", ["0,0,1", "0.5,0,0.6,1", "0,0,0.01,1", "0,0,1,1,1"])
def test_a_crop_outside_the_frame_is_refused(crop):
    with pytest.raises(UsageError, match=r"data\.crop is .*not a part of the frame") as caught:
        Config().updated({"data.crop": crop}, "here")
    assert "x,y,w,h" in caught.value.hint


def test_made_up_data_have_nothing_to_crop(tmp_path):
    line = ["prepare", "digits", "-o", tmp_path / "s", *sets("data.crop=0,0,0.5,0.5")]
    mgap(*line).fails(2, "data.crop: digits has no camera frames")
