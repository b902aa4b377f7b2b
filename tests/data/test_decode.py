"""Real media through decord, scipy and Pillow."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from helpers.media import write_media, write_wav

from mgap_cli.config import DataConfig
from mgap_cli.data.clips import Clip, Undecodable
from mgap_cli.data.media.audio import fit_length, log_spectrogram, resample
from mgap_cli.data.media.decode import LFS_POINTER, chosen_frames, obstacle, read_media
from mgap_cli.data.media.spectrograms import spectrogram_shape


def loudest_hertz(wave: np.ndarray, rate: int) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(wave))) * rate / wave.size)


@pytest.mark.parametrize("suffix", [".mp4", ".flv", ".mpg"])
def test_frames_are_at_the_centres_of_equal_segments_of_time(media_file, suffix):
    config = DataConfig(frames=4, frame_size=32, sample_rate=8000)
    frames, wave = read_media(Clip("a", "x", "train", media_file(suffix)), config)
    assert frames.shape == (4, 32, 32, 3) and frames.dtype == np.uint8
    # Red grows with time: at the centres of the quarters it is 1/8, 3/8, 5/8 and 7/8 of full scale.
    red = frames[:, 4:12, 8:24, 0].mean(axis=(1, 2)) / 255
    np.testing.assert_allclose(red, [0.125, 0.375, 0.625, 0.875], atol=0.06)
    assert frames[:, 20:28, :, 2].mean() > 200, "the lower half is blue: rows are rows, channels RGB"
    assert wave.dtype == np.float32 and abs(wave.size / 8000 - 1) < 0.12
    assert abs(loudest_hertz(wave, 8000) - 440) < 5


def test_stereo_is_mixed_and_never_beyond_full_scale(tmp_path):
    config = DataConfig(frames=1, frame_size=16, sample_rate=22_050)
    for name, layout in (("m.mp4", "mono"), ("s.mp4", "stereo"), ("s.mpg", "stereo")):
        path = write_media(tmp_path / name, layout=layout, amplitude=0.95)
        _, wave = read_media(Clip(name, "x", "train", path), config)
        assert 0.85 < np.abs(wave[2000:-2000]).max() <= 1, name
        assert abs(loudest_hertz(wave, 22_050) - 440) < 5
        inner = wave[4000:8000]
        assert np.abs(inner).max() / inner.std() == pytest.approx(np.sqrt(2), abs=0.05), "a sine, not cut off"


@pytest.mark.parametrize("size", [8, 16, 24, 48, 72, 100, 224])
def test_every_frame_size_decodes(media_file, size):
    frames, _ = read_media(Clip("a", "x", "train", media_file(".mp4")), DataConfig(frames=1, frame_size=size))
    assert frames.shape == (1, size, size, 3)
    assert frames[0, : size // 4, :, 0].mean() / 255 == pytest.approx(0.5, abs=0.05)
    assert frames[0, -size // 4 :, :, 2].mean() > 200


def test_a_segment_takes_its_frames_and_its_sound(media_file):
    config = DataConfig(frames=1, frame_size=32, sample_rate=8000)
    clip = Clip("a", "x", "train", media_file(".mp4"), start=0.5, end=1.0)
    frames, wave = read_media(clip, config)
    assert frames[0, 4:12, 8:24, 0].mean() / 255 == pytest.approx(0.75, abs=0.06)
    assert wave.size == 4000
    with pytest.raises(Undecodable, match="no video between 5 and"):
        read_media(dataclasses.replace(clip, start=5.0, end=6.0), config)


def test_wav_is_resampled_and_mixed(media_file, tmp_path):
    path = tmp_path / "x.wav"
    write_wav(path, seconds=1, rate=16_000, hertz=1000, channels=2)
    config = DataConfig(frames=1, frame_size=16, sample_rate=22_050)
    _, wave = read_media(Clip("a", "x", "train", media_file(".mp4"), path), config)
    assert wave.size == 22_050 and abs(loudest_hertz(wave, 22_050) - 1000) < 2
    assert np.abs(wave[500:-500]).max() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("suffix", [".mp4", ".flv", ".mpg", ".avi"])
def test_an_intact_clip_with_a_wrong_suffix_is_read(media_file, tmp_path, small_config, suffix):
    path = tmp_path / "renamed.wav"
    path.write_bytes(media_file(suffix).read_bytes())
    frames, wave = read_media(Clip("a", "x", "train", path), small_config)
    assert frames.std() > 20 and abs(loudest_hertz(wave, 8000) - 440) < 5


def test_a_folder_of_frames_is_read_in_the_order_of_its_numbers(tmp_path, media_file):
    from PIL import Image

    folder = tmp_path / "clip"
    folder.mkdir()
    for i in (10, 2, 9, 1):  # as text, 10 comes before 2
        Image.fromarray(np.full((20, 30, 3), i * 20, np.uint8)).save(folder / f"frame{i}.png")
    config = DataConfig(frames=4, frame_size=16, sample_rate=8000)
    frames, _ = read_media(Clip("a", "x", "train", folder, media_file(".wav")), config)
    assert frames[:, 8, 8, 0].tolist() == [20, 40, 180, 200]


def test_files_that_are_not_clips_give_a_reason(tmp_path, media_file, small_config):
    whole = media_file(".mp4").read_bytes()
    cases = {
        "cut.mp4": (whole[: len(whole) // 2], "damaged, cut short, or not media"),
        "text.mp4": (b"no media at all" * 99, "damaged, cut short, or not media"),
    }
    for name, (content, reason) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(Undecodable, match=reason):
            read_media(Clip(name, "x", "train", tmp_path / name), small_config)
    silent = write_media(tmp_path / "silent.mp4", audio=False)
    with pytest.raises(Undecodable, match="no audio stream"):
        read_media(Clip("s", "x", "train", silent), small_config)
    blind = write_media(tmp_path / "blind.mp4", video=False)
    with pytest.raises(Undecodable, match="no video stream"):
        read_media(Clip("b", "x", "train", blind), small_config)


def test_obstacles_are_seen_without_opening_a_decoder(tmp_path, media_file):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "pointer.flv").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    )
    (tmp_path / "folder").mkdir()
    reasons = {
        name: obstacle(Clip(name, "x", "train", tmp_path / name))
        for name in ("empty.mp4", "pointer.flv", "folder", "nowhere.mp4")
    }
    assert reasons == {
        "empty.mp4": "empty file",
        "pointer.flv": LFS_POINTER,
        "folder": "folder without frames",
        "nowhere.mp4": "missing file",
    }
    assert obstacle(Clip("fine", "x", "train", media_file(".mp4"))) == ""


def test_frames_follow_time_stamps_not_their_count():
    # There are ten frames in the first second and one in the second, which the last quarters show.
    times = np.r_[np.arange(10) / 10, 1.0]
    assert chosen_frames(times, 2.0, 4).tolist() == [2, 7, 10, 10]
    assert chosen_frames(times[::-1], 2.0, 1).tolist() == [0], "stamps out of order are put in order"
    assert chosen_frames(np.zeros(3), 0.0, 2).tolist() == [2, 2], "no time at all still gives frames"
    assert chosen_frames(times + 5, 7.0, 4).tolist() == [2, 7, 10, 10], "a late start changes nothing"


def test_real_clips_give_the_frames_that_another_decoder_gives(shared_data):
    import av

    config = DataConfig(frames=2, frame_size=64, seconds=10.0)
    paths = sorted((shared_data / "real_clips").iterdir())
    assert len(paths) == 17
    for path in paths:
        frames, wave = read_media(Clip(path.stem, "x", "train", path), config)
        assert 2.5 < wave.size / config.sample_rate < 10.5 and wave.std() > 1e-4, path.name
        with av.open(str(path)) as container:
            truth = [
                f.reformat(64, 64, "rgb24", interpolation="AREA").to_ndarray().astype(float)
                for f in container.decode(video=0)
            ]
        for frame, share in zip(frames, (0.25, 0.75), strict=True):
            nearest = int(np.argmin([np.abs(frame - other).mean() for other in truth]))
            assert abs(nearest - share * len(truth)) <= 2, (path.name, nearest, len(truth))


def test_spectrogram_equals_a_numpy_reference():
    config = DataConfig(sample_rate=8000, seconds=0.5, n_fft=128, hop=64)
    wave = np.random.default_rng(0).normal(0, 0.6, 3000).astype(np.float32)  # some beyond [-1, 1]
    tiled = np.clip(np.r_[wave, wave][:4000].astype(np.float64), -1, 1)
    padded = np.pad(tiled, 64, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(128) / 128)
    columns = [np.abs(np.fft.rfft(padded[i : i + 128] * window)) for i in range(0, padded.size - 127, 64)]
    expected = np.log(np.array(columns).T + 1e-7)
    ours = log_spectrogram(wave, config)
    assert ours.dtype == np.float16 and ours.shape == expected.shape == spectrogram_shape(config) == (
        65,
        63,
    )
    np.testing.assert_allclose(ours.astype(np.float64), expected, rtol=1e-3, atol=2e-3)


def test_default_protocol_has_the_shape_of_the_literature():
    assert spectrogram_shape(DataConfig()) == (257, 188)
    assert log_spectrogram(np.zeros(10, np.float32), DataConfig()).shape == (257, 188)


def test_length_is_fitted_by_tiling_or_cutting():
    assert fit_length(np.array([1.0, 2.0, 3.0]), 7).tolist() == [1, 2, 3, 1, 2, 3, 1]
    assert fit_length(np.arange(5.0), 3).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="empty"):
        fit_length(np.zeros(0), 3)


def test_resampling_keeps_the_pitch():
    wave = np.sin(2 * np.pi * 500 * np.arange(16_000) / 16_000).astype(np.float32)
    assert abs(loudest_hertz(resample(wave, 16_000, 22_050), 22_050) - 500) < 2
    assert resample(wave, 16_000, 16_000) is wave
