"""Media files to frames and a waveform. The only module that knows decord.

decord reads FLV, MP4, AVI, MPEG and more, video and audio; plain WAV goes through scipy, which takes
0.1 ms, and a folder of frames through Pillow. Frames are chosen by their time stamps, never by a frame
rate that a header claims: the one shown at the centre of each of T equal segments.
"""

from __future__ import annotations

import math
import os
import stat
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mgap_cli.config import DataConfig
from mgap_cli.data.clips import Clip, Reader, Undecodable
from mgap_cli.data.features import resample
from mgap_cli.errors import MgapError

LFS_POINTER = "Git LFS pointer in place of the file"
_LFS_HEADER = b"version https://git-lfs.github.com/spec/"
_IMAGES = {".jpg", ".jpeg", ".png", ".bmp"}


def read_media(clip: Clip, config: DataConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return frames (T, H, W, 3) uint8 RGB and a mono waveform (n,) float32 at `sample_rate`.

    Frames are squashed to `frame_size` square. Raises Undecodable, with a reason, for anything less.
    """
    if clip.video is None:
        raise Undecodable("no video file")
    # decord ends sentences with the C++ file and line; MemoryError is what absurd sizes lead to.
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
    """Return `read_media`, having made sure that decord can be imported: MgapError if not."""
    try:
        _decord()
    except (ImportError, OSError) as error:
        raise MgapError(f"decord cannot be imported ({error}).", "pip install decord (or decord2)") from error
    return read_media


def obstacle(clip: Clip) -> str:
    """Return why the clip's files need not even be opened (missing, empty, pointer ...), or ""."""
    if clip.video is None:
        return "no video file"
    return next((reason for reason in map(_file_obstacle, clip.files) if reason), "")


def _file_obstacle(path: Path) -> str:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            return "" if any(p.suffix.lower() in _IMAGES for p in path.iterdir()) else "folder without frames"
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
    decord = _decord()
    size = config.frame_size
    reader = decord.VideoReader(os.fspath(path.absolute()), width=size, height=size, num_threads=1)
    if len(reader) == 0:
        raise Undecodable("video has no frames")
    starts = np.asarray(reader.get_frame_timestamp(range(len(reader))), np.float64).reshape(-1, 2)
    chosen = chosen_frames(starts[:, 0], float(starts[-1, 1]), config.frames, clip.start, clip.end)
    batch: np.ndarray = reader.get_batch(chosen.tolist()).asnumpy()
    return batch


def chosen_frames(
    times: np.ndarray, end: float, count: int, first: float | None = None, last: float | None = None
) -> np.ndarray:
    """Return (count,) indices of the frames on screen at the centres of `count` equal segments.

    `times` (n,) are the frames' start times in seconds, `end` the last one's end; `first` and `last`
    bound the part in question, in seconds from the first frame. Undecodable if no frame lies in it.
    """
    order = np.argsort(times, kind="stable")
    shown = times[order] - times[order[0]]
    duration = max(end - float(times[order[0]]), float(shown[-1]))
    low, high = first or 0.0, min(duration if last is None else last, duration)
    if low > float(shown[-1]) or high < low or not math.isfinite(duration):
        raise Undecodable(f"no video between {low:g} and {high:g} s")
    centres = low + (np.arange(count) + 0.5) * (high - low) / count
    positions: np.ndarray = order[np.clip(np.searchsorted(shown, centres, side="right") - 1, 0, None)]
    return positions


def _frames_of_folder(folder: Path, config: DataConfig) -> np.ndarray:
    """Read T of a folder's images: the frames in the order of their names, digits by value."""
    from PIL import Image

    # A directory lists its files in any order; sorting is what makes the choice mean anything.
    paths = sorted((p for p in folder.iterdir() if p.suffix.lower() in _IMAGES), key=_natural)
    if not paths:
        raise Undecodable("folder without frames")
    chosen = [paths[int((i + 0.5) * len(paths) / config.frames)] for i in range(config.frames)]
    size = (config.frame_size, config.frame_size)
    return np.stack([np.asarray(Image.open(path).convert("RGB").resize(size)) for path in chosen])


def _natural(path: Path) -> tuple[int, str]:
    digits = "".join(c for c in path.stem if c.isdigit())
    return int(digits or 0), path.name


def _waveform(path: Path, clip: Clip, rate: int) -> np.ndarray:
    if path.suffix.lower() == ".wav":
        wave, own_rate = _read_wav(path)
    else:
        reader = _decord().AudioReader(os.fspath(path.absolute()), sample_rate=rate, mono=False)
        # Its own indexing copies sample by sample; and its own mono mix adds channels instead of
        # averaging them, so that stereo clips would be cut off at full scale.
        wave, own_rate = np.asarray(reader._array, np.float32).mean(axis=0), rate
    first = round((clip.start or 0.0) * own_rate)
    last = None if clip.end is None else round(clip.end * own_rate)
    wave = wave[first:last]
    if wave.size == 0:
        raise Undecodable("no audio in the clip")
    return resample(np.ascontiguousarray(wave), own_rate, rate)


def _read_wav(path: Path) -> tuple[np.ndarray, int]:
    """Return the channels' mean in [-1, 1] as (n,) float32, and the file's rate in Hz."""
    import warnings

    from scipy.io import wavfile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about chunks that are not audio
        rate, data = wavfile.read(path)
    if rate <= 0:
        raise Undecodable(f"WAV header claims {rate} Hz")
    if data.dtype == np.uint8:  # 8-bit WAV is unsigned
        scaled = (data.astype(np.float32) - 128) / 128
    elif np.issubdtype(data.dtype, np.integer):
        scaled = data.astype(np.float32) / -float(np.iinfo(data.dtype).min)
    else:
        scaled = data.astype(np.float32)
    return (scaled.mean(axis=1) if scaled.ndim > 1 else scaled), int(rate)


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
    if text.startswith("[") or "Error reading" in text:
        return "damaged, cut short, or not media"
    return text.splitlines()[0][:200] if text else type(error).__name__
