"""Decode media files to frames and a waveform. This is the only module that imports decord.

decord reads the frames of FLV, MP4, AVI and other formats. PyAV reads their sound, and both from MPEG program
streams. scipy reads plain WAV files in 0.1 ms, and Pillow reads folders of frames. Frames are chosen by their
time stamps, never by the frame rate in a header: the clip is divided into T equal segments, and the frame at
the centre of each is taken. Time 0 of a clip is its first frame. Sound from the video's file keeps its time
on that clock, and silence fills a missing beginning.
"""

from __future__ import annotations

import math
import os
import stat
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from mgap_cli.config import DataConfig
from mgap_cli.data.clips import Clip, Reader, Undecodable
from mgap_cli.data.media.audio import resample
from mgap_cli.data.media.media_headers import without_false_claims
from mgap_cli.data.media.streams import USUAL_RATE, Sound, read_frames, read_sound, read_times
from mgap_cli.errors import MgapError

LFS_POINTER = "Git LFS pointer in place of the file"
_LFS_HEADER = b"version https://git-lfs.github.com/spec/"
_SAFE_SIZE = 96  # pixels
_ABSURD_SECONDS = 1e6  # a larger time stamp is invalid
_IMAGES = {".jpg", ".jpeg", ".png", ".bmp"}


def read_media(clip: Clip, config: DataConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return frames (T, H, W, 3) uint8 RGB and a mono waveform (n,) float32 at `sample_rate`.

    Frames, or the part that `crop` names, are resized to a square of `frame_size`, without keeping the aspect
    ratio. Raises Undecodable, with the reason, if anything is missing.
    """
    if clip.video is None:
        raise Undecodable("no video file")
    # decord ends sentences with the C++ file and line. Absurd sizes lead to MemoryError.
    try:
        frames = _frames(clip.video, clip, config)
    except (RuntimeError, OSError, ValueError, IndexError, MemoryError, _decord_error()) as error:
        raise Undecodable(f"video cannot be decoded: {_reason(error)}") from error
    try:
        wave = _waveform(clip.audio or clip.video, clip, config.sample_rate)
    except (RuntimeError, OSError, ValueError, IndexError, MemoryError, _decord_error()) as error:
        raise Undecodable(f"audio cannot be decoded: {_reason(error)}") from error
    return frames, wave


def media_reader() -> Reader:
    """Return `read_media` after a check that decord can be imported; MgapError if it cannot."""
    try:
        _decord()
    except (ImportError, OSError) as error:
        raise MgapError(f"decord cannot be imported ({error}).", "pip install decord (or decord2)") from error
    return read_media


def obstacle(clip: Clip) -> str:
    """Return why it is useless to open the clip's files (missing, empty, pointer ...), or ""."""
    if clip.video is None:
        return "no video file"
    return next((reason for reason in map(_file_obstacle, clip.files) if reason), "")


def _file_obstacle(path: Path) -> str:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            return "" if _images(path) else "folder without frames"
        if not stat.S_ISREG(status.st_mode):
            return "not a plain file"
        if status.st_size == 0:
            return "empty file"
        with path.open("rb") as file:
            return LFS_POINTER if file.read(len(_LFS_HEADER)) == _LFS_HEADER else ""
    except FileNotFoundError:
        return "missing file"
    except (OSError, ValueError) as error:
        return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _frames(path: Path, clip: Clip, config: DataConfig) -> np.ndarray:
    if path.is_dir():
        return _frames_of_folder(path, config)
    # decord fails on some widths below 96, so small frames are read at a multiple of their size and averaged.
    factor = -(-_SAFE_SIZE // config.frame_size)
    width, height = (factor * side for side in _whole_size(config))
    mended = without_false_claims(path)
    if _is_program_stream(path):
        source = path if mended is None else BytesIO(mended)
        times = read_times(source)
        chosen = chosen_frames(times[:, 0], float(times[-1, 1]), config.stored_frames, clip.start, clip.end)
        return _cropped(read_frames(source, chosen.tolist(), _whole_size(config)), config)
    media = os.fspath(path.absolute()) if mended is None else BytesIO(mended)
    reader = _decord().VideoReader(media, width=width, height=height, num_threads=1)
    if len(reader) == 0:
        raise Undecodable("video has no frames")
    times, usable = _frame_times(reader)
    chosen = chosen_frames(times[:, 0], float(times[-1, 1]), config.stored_frames, clip.start, clip.end)
    if usable:
        batch: np.ndarray = reader.get_batch(chosen.tolist()).asnumpy()
    else:
        batch = _read_in_order(reader, chosen.tolist())
    return _cropped(batch if factor == 1 else _averaged(batch, factor), config)


def _whole_size(config: DataConfig) -> tuple[int, int]:
    """Return the width and height of whole frames whose crop has `frame_size` pixels on each side."""
    _, _, width, height = config.crop
    return round(config.frame_size / width), round(config.frame_size / height)


def _cropped(frames: np.ndarray, config: DataConfig) -> np.ndarray:
    """Return the crop (T, S, S, 3) of whole frames (T, H, W, 3) of the size `_whole_size`."""
    size, (x, y, *_) = config.frame_size, config.crop
    if frames.shape[1:3] == (size, size):
        return frames
    high, wide = frames.shape[1:3]
    top, left = min(round(y * high), high - size), min(round(x * wide), wide - size)
    return np.ascontiguousarray(frames[:, top : top + size, left : left + size])


def _frame_times(reader: Any) -> tuple[np.ndarray, bool]:
    """Return each frame's start and end (n, 2) in seconds, and whether they come from the file.

    If a stream lacks time stamps, the frames are assumed to be evenly spaced, at a plausible rate.
    """
    count = len(reader)
    times = np.asarray(reader.get_frame_timestamp(range(count)), np.float64).reshape(count, 2)
    if np.isfinite(times).all() and np.abs(times).max() < _ABSURD_SECONDS:
        if count > 1 and times[-1, 1] <= times[-1, 0]:  # FLV may not say how long the last frame stays
            times[-1, 1] = times[-1, 0] + np.ptp(times[:, 0]) / (count - 1)
        return times, True
    rate = reader.get_avg_fps()
    step = 1 / rate if 1 <= rate <= 1000 else 1 / USUAL_RATE
    return step * (np.arange(count)[:, None] + np.array([0, 1])), False


def _read_in_order(reader: Any, chosen: list[int]) -> np.ndarray:
    """Read frames without seeking, because decord seeks by time stamps, and these are missing."""
    kept: dict[int, np.ndarray] = {}
    for i in range(max(chosen) + 1):
        try:
            frame = reader.next().asnumpy()
        except StopIteration as error:
            raise Undecodable(f"video ends after {i} of {len(reader)} frames") from error
        if i in chosen:
            kept[i] = frame
    return np.stack([kept[i] for i in chosen])


def _is_program_stream(path: Path) -> bool:
    return _head(path)[:4] == b"\0\0\1\xba"


def _is_wav(path: Path) -> bool:
    head = _head(path)
    return head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:] == b"WAVE"


def _head(path: Path) -> bytes:
    """Return the first 12 bytes, which decide the type of a file instead of its name."""
    with path.open("rb") as file:
        return file.read(12)


def _averaged(batch: np.ndarray, factor: int) -> np.ndarray:
    """Return (T, H, W, 3) reduced by a whole `factor`, by averaging blocks."""
    count, height, width, channels = batch.shape
    blocks = batch.reshape(count, height // factor, factor, width // factor, factor, channels)
    means: np.ndarray = np.rint(blocks.mean(axis=(2, 4), dtype=np.float32)).astype(np.uint8)
    return means


def chosen_frames(
    times: np.ndarray, end: float, count: int, first: float | None = None, last: float | None = None
) -> np.ndarray:
    """Return (count,) indices of the frames on screen at the centres of `count` equal segments.

    `times` (n,) are the frames' start times in seconds, and `end` is the end of the last frame. `first` and
    `last` are the limits of the wanted part, in seconds from the first frame. Raises Undecodable if no frame
    is in it.
    """
    order = np.argsort(times, kind="stable")
    seconds = times[order] - times[order[0]]
    duration = max(end - float(times[order[0]]), float(seconds[-1]))
    low, high = first or 0.0, min(duration if last is None else last, duration)
    if low > float(seconds[-1]) or high < low or not math.isfinite(duration):
        raise Undecodable(f"no video between {low:g} and {high:g} s")
    centres = low + (np.arange(count) + 0.5) * (high - low) / count
    positions: np.ndarray = order[np.clip(np.searchsorted(seconds, centres, side="right") - 1, 0, None)]
    return positions


def _frames_of_folder(folder: Path, config: DataConfig) -> np.ndarray:
    """Read T of a folder's images, sorted by name with digits compared as numbers."""
    from PIL import Image

    # A directory lists its files in any order, so they must be sorted before the choice.
    paths = sorted(_images(folder), key=_natural)
    if not paths:
        raise Undecodable("folder without frames")
    count = config.stored_frames
    chosen = [paths[int((i + 0.5) * len(paths) / count)] for i in range(count)]
    size = _whole_size(config)
    frames = np.stack([np.asarray(Image.open(path).convert("RGB").resize(size)) for path in chosen])
    return _cropped(frames, config)


def _images(folder: Path) -> list[Path]:
    """Return a folder's images in any order, without the hidden files that macOS leaves beside them."""
    return [p for p in folder.iterdir() if p.suffix.lower() in _IMAGES and not p.name.startswith(".")]


def _natural(path: Path) -> tuple[int, str]:
    digits = "".join(c for c in path.stem if c.isdigit())
    return int(digits or 0), path.name


def _waveform(path: Path, clip: Clip, rate: int) -> np.ndarray:
    sound = _read_wav(path) if _is_wav(path) else read_sound(path)
    # In a file with sound only, time 0 is the first sample.
    begin = round(sound.start * sound.rate) if path == clip.video else 0
    first = round((clip.start or 0.0) * sound.rate) - begin
    last = sound.wave.size if clip.end is None else min(round(clip.end * sound.rate) - begin, sound.wave.size)
    wave = sound.wave[max(0, first) : max(0, last)]
    if wave.size == 0:
        raise Undecodable("no audio in the clip")
    wave = np.pad(wave, (max(0, -first), 0))  # the sound begins after the clip
    return resample(np.ascontiguousarray(wave), sound.rate, rate)


def _read_wav(path: Path) -> Sound:
    """Return a WAV file's sound, in [-1, 1]; Undecodable for an impossible sample rate."""
    import warnings

    from scipy.io import wavfile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings about chunks that are not audio
        rate, data = wavfile.read(path)
    if rate <= 0:
        raise Undecodable(f"WAV header claims {rate} Hz")
    if data.dtype == np.uint8:  # 8-bit WAV is unsigned
        scaled = (data.astype(np.float32) - 128) / 128
    elif np.issubdtype(data.dtype, np.integer):
        scaled = data.astype(np.float32) / -float(np.iinfo(data.dtype).min)
    else:
        scaled = data.astype(np.float32)
    return Sound(scaled.mean(axis=1) if scaled.ndim > 1 else scaled, int(rate), 0.0)


@cache
def _decord() -> Any:
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    return decord


def _decord_error() -> type[Exception]:
    from decord import DECORDError  # an Exception, but not a RuntimeError

    error: type[Exception] = DECORDError
    return error


def _reason(error: Exception) -> str:
    text = str(error).strip()
    if "find audio stream" in text:
        return "no audio stream"
    if "find video stream" in text:
        return "no video stream"
    if text.startswith("[") or "Error reading" in text or "Invalid data" in text:
        return "damaged, cut short, or not media"
    return text.splitlines()[0][:200] if text else type(error).__name__
