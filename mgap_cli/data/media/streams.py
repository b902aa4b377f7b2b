"""Read sound from media files and frames from MPEG program streams. Only this module imports PyAV.

decord reads frames fast, and is used for that. But it resamples sound with a filter that is too short for the
top of the spectrum, it does not report the start time of a stream, and it dates the first frames of MPEG
program streams too late. FFmpeg, through PyAV, gives sound at its original rate, and every time stamp.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from mgap_cli.data.clips import Undecodable

_LONGEST_DELAY = 60.0  # seconds; streams of one file that begin further apart have wrong time stamps
USUAL_RATE = 25.0  # frames per second, where a file does not say


@dataclass(frozen=True)
class Sound:
    """wave: (n,) float32, the mean of the channels; rate: Hz; start: seconds after the video's first frame.

    `start` is negative if the sound begins before the video, and 0 if the file has no video.
    """

    wave: np.ndarray
    rate: int
    start: float


def read_sound(path: Path) -> Sound:
    """Decode the first audio stream of a media file, at its own rate.

    A packet that cannot be decoded is skipped, as in FFmpeg's own programs. Raises Undecodable if there is
    no audio stream or if nothing of it can be decoded; PyAV's errors, which are OSError or ValueError, if the
    file cannot be opened.
    """
    import av

    parts: list[np.ndarray] = []
    with av.open(os.fspath(path.absolute())) as container:
        if not container.streams.audio:
            raise Undecodable("no audio stream")
        stream = container.streams.audio[0]
        stream.codec_context.thread_count = 1  # one thread, because many processes decode in parallel
        rate, first, to_float = 0, None, None
        for frame in _decoded(container, stream):
            if to_float is None:
                rate, first = frame.sample_rate, frame.time
                to_float = av.AudioResampler(format="fltp")  # planes of float32; same rate and channels
            if frame.sample_rate != rate:
                raise Undecodable(f"the sample rate changes from {rate} to {frame.sample_rate} Hz")
            for planes in to_float.resample(frame):
                parts.append(planes.to_ndarray().mean(axis=0, dtype=np.float32))
        start = _delay(first, container)
    if not parts:
        raise Undecodable("no sound in the audio stream")
    return Sound(np.concatenate(parts), rate, start)


def read_times(source: Path | BytesIO) -> np.ndarray:
    """Return each video frame's start and end (n, 2) in seconds, in the order in which frames are shown.

    The frames of a program stream are evenly spaced. Only some of them have time stamps of their own; the
    others are dated by a rate that the header may state wrongly. Therefore only the first and the last time
    stamp are used; without them, the stated rate is used. The function decodes the whole stream, because a
    program stream does not list its frames. Raises the errors of `read_sound`.
    """
    times, rate = [], USUAL_RATE
    for frame, average in _video_frames(source):
        times.append(frame.time)
        rate = average or rate
    if not times:
        raise Undecodable("video has no frames")
    first, last, step = times[0], times[-1], 1 / rate
    if first is None or last is None:
        first = 0.0
    elif last > first:
        step = (last - first) / (len(times) - 1)
    starts = first + step * np.arange(len(times))
    return np.stack([starts, starts + step], axis=1)


def read_frames(source: Path | BytesIO, chosen: list[int], size: tuple[int, int]) -> np.ndarray:
    """Return the frames at the positions `chosen` as (len(chosen), height, width, 3) uint8 RGB.

    size: width, height. Positions count the frames in the order in which they are shown. Raises the errors of
    `read_sound`.
    """
    kept: dict[int, np.ndarray] = {}
    width, height = size
    for i, (frame, _) in enumerate(_video_frames(source)):
        if i in chosen:
            kept[i] = frame.to_ndarray(width=width, height=height, format="rgb24", interpolation="BICUBIC")
        if i >= max(chosen):
            break
    if missing := [i for i in chosen if i not in kept]:
        raise Undecodable(f"video ends before frame {missing[0]}")
    return np.stack([kept[i] for i in chosen])


def _video_frames(source: Path | BytesIO) -> Iterator[tuple[Any, float]]:
    """Yield each frame of the first video stream, and the stream's average rate (0 if it is unknown)."""
    import av

    if isinstance(source, BytesIO):
        source.seek(0)
    with av.open(source if isinstance(source, BytesIO) else os.fspath(source.absolute())) as container:
        if not container.streams.video:
            raise Undecodable("no video stream")
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        rate = float(stream.average_rate or 0)
        for frame in _decoded(container, stream):
            yield frame, rate if 1 <= rate <= 1000 else 0.0


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Yield a stream's frames in the order of their time, without those of damaged packets."""
    import av

    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            continue


def _delay(first: float | None, container: Any) -> float:
    """Return how many seconds after the video's first frame the sound begins; `first` is its first time."""
    import av

    pictures = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not pictures or first is None or pictures[0].start_time is None:
        return 0.0
    delay = first - float(pictures[0].start_time * pictures[0].time_base)
    return delay if abs(delay) <= _LONGEST_DELAY else 0.0
