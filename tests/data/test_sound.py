"""The sound of a store: resampled without distortion, and synchronous with the video."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.media import picture
from helpers.program import mgap, sets

from mgap_cli.config import DataConfig
from mgap_cli.data.clips import Clip
from mgap_cli.data.media.audio import resample
from mgap_cli.data.media.decode import read_media
from mgap_cli.data.store import open_store

SIZE = (96, 64)


def write_clip(
    path: Path, wave: np.ndarray, rate: int, audio_codec: str, *, audio_at: float = 0, video_at: float = 0
) -> Path:
    """Write two seconds of video, whose red grows, and a sound; `_at`: the time at which a stream begins."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("flv" if path.suffix == ".flv" else "mpeg4", rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = *SIZE, "yuv420p"
        sound = container.add_stream(audio_codec, rate=rate)
        sound.layout = "mono"
        for i in range(50):
            frame = av.VideoFrame.from_ndarray(picture(i / 50, SIZE), format="rgb24")
            frame.pts, frame.time_base = i + round(25 * video_at), Fraction(1, 25)
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode())
        for first in range(0, wave.size, 1024):
            block = (wave[None, first : first + 1024] * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
            frame.sample_rate, frame.pts = rate, first + round(audio_at * rate)
            frame.time_base = Fraction(1, rate)
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    return path


def sine(hertz: float, rate: int, seconds: float = 2.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def burst(rate: int, at: float) -> np.ndarray:
    """Return two seconds of silence with a tone of 50 ms that begins `at` seconds."""
    wave = np.zeros(2 * rate, np.float32)
    first, length = round(at * rate), round(0.05 * rate)
    wave[first : first + length] = 0.8 * np.sin(2 * np.pi * 1000 * np.arange(length) / rate)
    return wave


def signal_to_noise(wave: np.ndarray, hertz: float, rate: int) -> float:
    """Return the SNR in dB of a tone with fitted amplitude and phase, without the ends of the sound."""
    inner = wave[rate // 4 : -rate // 4].astype(np.float64)
    angle = 2 * np.pi * hertz * np.arange(inner.size) / rate
    basis = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    rest = inner - basis @ np.linalg.lstsq(basis, inner, rcond=None)[0]
    return float(10 * np.log10((inner @ inner) / (rest @ rest)))


@pytest.mark.parametrize(("hertz", "rate"), [(1000, 16_000), (7000, 16_000), (3500, 8000), (9600, 22_050)])
def test_a_tone_near_the_top_of_its_band_is_resampled_without_distortion(hertz, rate):
    new_rate = 22_050 if rate != 22_050 else 44_100
    assert signal_to_noise(resample(sine(hertz, rate), rate, new_rate), hertz, new_rate) > 60


def test_the_spectrogram_has_nothing_above_what_the_sound_had():
    """A sound at 16 kHz has nothing above 8 kHz; a poor filter adds mirror images there."""
    noise = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    resampled = resample(noise, 16_000, 22_050)
    spectrum = np.abs(
        np.fft.rfft(resampled * np.hanning(resampled.size))
    )  # the ends are steps, which contain every frequency
    hertz = np.linspace(0, 11_025, spectrum.size)
    level = np.sqrt(np.mean(spectrum[(hertz > 500) & (hertz < 7000)] ** 2))
    images = np.sqrt(np.mean(spectrum[hertz > 8750] ** 2))
    assert 20 * np.log10(images / level) < -80
    passed = np.sqrt(np.mean(spectrum[(hertz > 7000) & (hertz < 7250)] ** 2))
    assert abs(20 * np.log10(passed / level)) < 0.5


@pytest.mark.parametrize("suffix", [".wav", ".avi"])
def test_sound_of_16_khz_reaches_the_store_clean(tmp_path, suffix):
    """The usual case of CREMA-D: 16 kHz to 22.05 kHz, from a WAV file or from the video."""
    from scipy.io import wavfile

    wave = sine(7000, 16_000)
    write_clip(tmp_path / "a.avi", wave, 16_000, "pcm_s16le")
    wavfile.write(tmp_path / "a.wav", 16_000, (wave * 32767).astype(np.int16))
    audio = "a.wav" if suffix == ".wav" else ""
    (tmp_path / "m.csv").write_text(f"id,path,audio_path,split,word\na,a.avi,{audio},train,yes\n")
    line = ["prepare", "manifest", tmp_path / "m.csv", "-o", tmp_path / "s", "--workers", 1]
    done = mgap(*line, *sets("data.frame_size=32", "data.seconds=2", "data.val_share=0"))
    assert done.code == 0, done.err
    columns = open_store(tmp_path / "s").audio[0].astype(np.float64)[:, 20:-20]
    hertz = np.arange(257) * 22_050 / 512
    assert abs(hertz[columns.mean(axis=1).argmax()] - 7000) < 44
    # Outside the main lobe of the window and its side lobes, nothing is left of the tone.
    images = columns[(hertz > 8600) | (hertz < 5400)].max()
    assert images < columns.max() - np.log(1000), "images of the tone, less than 60 dB below it"


# Formats whose time stamps may begin at any time.
LATE = [(".mkv", "pcm_s16le", 16_000), (".mp4", "aac", 16_000), (".flv", "libmp3lame", 44_100)]


@pytest.mark.parametrize(("suffix", "codec", "rate"), LATE)
@pytest.mark.parametrize(("audio_at", "video_at"), [(0, 0), (0.5, 0), (0, 0.5)])
def test_sound_keeps_its_time_on_the_videos_clock(tmp_path, suffix, codec, rate, audio_at, video_at):
    path = write_clip(
        tmp_path / f"a{suffix}", burst(rate, 1.0), rate, codec, audio_at=audio_at, video_at=video_at
    )
    expected = 1.0 + audio_at - video_at
    for start in (None, 0.25):
        clip = Clip("a", "x", "train", path, start=start)
        _, wave = read_media(clip, DataConfig(frames=1, frame_size=32, sample_rate=8000))
        seconds = np.flatnonzero(np.abs(wave) > 0.2)[0] / 8000 + (start or 0)
        assert seconds == pytest.approx(expected, abs=0.04), f"start {start}"


def test_a_window_takes_the_sound_that_is_heard_in_it(tmp_path):
    """The sound begins 0.5 s after the video, so its burst at 1 s is heard at 1.5 s."""
    write_clip(tmp_path / "a.mkv", burst(16_000, 1.0), 16_000, "pcm_s16le", audio_at=0.5)
    rows = ["id,path,split,word,start,end", "in,a.mkv,train,yes,1.45,1.6", "before,a.mkv,train,no,0.95,1.1"]
    (tmp_path / "m.csv").write_text("\n".join([*rows, ""]))
    line = ["prepare", "manifest", tmp_path / "m.csv", "-o", tmp_path / "s", "--workers", 1]
    protocol = ("data.frame_size=32", "data.sample_rate=8000", "data.seconds=0.15", "data.val_share=0")
    done = mgap(*line, *sets(*protocol, "data.n_fft=128", "data.hop=64"))
    assert done.code == 0, done.err
    heard, silent = open_store(tmp_path / "s").audio.astype(np.float32).max(axis=(1, 2))
    assert heard > 2 and silent < -10, (heard, silent)


def test_a_window_before_the_sound_begins_is_skipped_with_a_reason(tmp_path):
    path = write_clip(tmp_path / "a.mkv", burst(16_000, 1.0), 16_000, "pcm_s16le", audio_at=0.5)
    (tmp_path / "m.csv").write_text(f"id,path,split,word,start,end\na,{path.name},train,yes,0,0.4\n")
    line = ["prepare", "manifest", tmp_path / "m.csv", "-o", tmp_path / "s", "--workers", 1]
    mgap(*line, *sets("data.val_share=0")).fails(3, "no audio in the clip")


@pytest.mark.parametrize("name", ["", "real"])
def test_a_program_stream_gives_its_first_frame_first(tmp_path, media_file, name, request):
    if name:
        folder = request.getfixturevalue("shared_data") / "real_clips"
        paths = sorted(folder.glob("*.mpg"))
        assert len(paths) == 6
    else:
        paths = [media_file(".mpg")]
    for path in paths:
        with av.open(str(path)) as container:
            truth = [
                f.to_ndarray(width=64, height=64, format="rgb24", interpolation="BICUBIC").astype(float)
                for f in container.decode(video=0)
            ]
        # As many segments as frames: each frame is the one in the middle of its segment.
        config = DataConfig(frames=len(truth), frame_size=64, sample_rate=8000)
        frames, _ = read_media(Clip(path.stem, "x", "train", path), config)
        assert np.abs(frames - np.stack(truth)).max() < 2, path.name
