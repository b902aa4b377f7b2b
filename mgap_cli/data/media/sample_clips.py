"""Write small media files in the formats of the published data sets, to test whether they can be decoded."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

# The codecs of frames and sound by the suffix of the file.
FORMATS = {
    ".mp4": ("libx264", "aac"),
    ".flv": ("libx264", "libmp3lame"),
    ".avi": ("mpeg4", "libmp3lame"),
    ".mpg": ("mpeg1video", "mp2"),
}
_FRAMES, _FPS, _SIZE, _RATE, _BLOCK = 25, 25, 64, 44_100, 1152  # numbers per second of frames and sound


def write_sample_clip(path: Path) -> None:
    """Write a clip of one second, white frames and a tone, in the format of its suffix.

    Raises PyAV's errors, which are OSError or ValueError, if FFmpeg cannot encode it.
    """
    import av

    frames_codec, sound_codec = FORMATS[path.suffix]
    with av.open(str(path), "w") as container:
        video = container.add_stream(frames_codec, rate=_FPS)
        video.width = video.height = _SIZE
        video.pix_fmt = "yuv420p"
        sound = container.add_stream(sound_codec, rate=_RATE)
        sound.layout = "mono"
        for number in range(_FRAMES):
            frame = av.VideoFrame.from_ndarray(np.full((_SIZE, _SIZE, 3), 255, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, _FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(_RATE) / _RATE).astype(np.float32)
        for first in range(0, _RATE, _BLOCK):
            block = av.AudioFrame.from_ndarray(tone[None, first : first + _BLOCK], "fltp", "mono")
            block.sample_rate, block.pts = _RATE, first
            container.mux(sound.encode(block))
        container.mux(sound.encode())
