"""Encodes small real media with PyAV: videos whose colour shows the time, and a tone."""

from __future__ import annotations

import math
import struct
import wave
from pathlib import Path

import av
import numpy as np

CODECS = {  # as the data sets have them
    ".mp4": ("libx264", "aac"),
    ".flv": ("libx264", "libmp3lame"),
    ".mpg": ("mpeg1video", "mp2"),
    ".avi": ("mpeg4", "libmp3lame"),
}


def write_media(
    path: Path,
    *,
    seconds: float = 1.0,
    fps: int = 25,
    size: tuple[int, int] = (96, 64),
    rate: int = 22_050,
    hertz: float = 440.0,
    layout: str = "mono",
    amplitude: float = 0.5,
    video: bool = True,
    audio: bool = True,
    video_codec: str | None = None,
) -> Path:
    """Write a clip whose frames go from black to red as time passes, lower half black, with a tone.

    The suffix decides the codecs: MP4 with H.264 and AAC, FLV with H.264 and MP3, MPEG-1 with MP2, WAV.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".wav":
        write_wav(path, seconds=seconds, rate=rate, hertz=hertz, channels=2 if layout == "stereo" else 1)
        return path
    codecs = CODECS[path.suffix]
    rate = 44_100 if path.suffix == ".mpg" else rate
    with av.open(str(path), "w") as container:
        pictures = sound = None
        if video:
            pictures = container.add_stream(video_codec or codecs[0], rate=fps)
            odd = size[0] % 2 or size[1] % 2  # chroma at half the size needs even sizes
            pictures.width, pictures.height, pictures.pix_fmt = *size, "yuv444p" if odd else "yuv420p"
            pictures.bit_rate = 400_000
        if audio:
            sound = container.add_stream(codecs[1], rate=rate)
            sound.layout = layout
        if pictures is not None:
            count = round(fps * seconds)
            for i in range(count):
                frame = av.VideoFrame.from_ndarray(picture(i / count, size), format="rgb24")
                container.mux(pictures.encode(frame))
            container.mux(pictures.encode())
        if sound is not None:
            _write_sound(container, sound, amplitude * tone(seconds, rate, hertz), rate, layout)
    return path


def turned(path: Path, degrees: int) -> Path:
    """Write beside an MP4 the same clip with a matrix that turns it clockwise, as phones do."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44  # of the first track, the pictures
    cos, sin = (round(f(math.radians(degrees))) << 16 for f in (math.cos, math.sin))
    content[matrix : matrix + 36] = struct.pack(">9i", cos, sin, 0, -sin, cos, 0, 0, 0, 1 << 30)
    copy = path.with_stem(f"{path.stem}-turned{degrees}")
    copy.write_bytes(content)
    return copy


def picture(progress: float, size: tuple[int, int]) -> np.ndarray:
    """Return (H, W, 3) uint8: the upper half red by `progress` in [0, 1], the lower half blue."""
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, :, 0] = round(255 * progress)
    image[height // 2 :, :, 2] = 255
    return image


def tone(seconds: float, rate: int, hertz: float) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def write_wav(path: Path, *, seconds: float, rate: int, hertz: float, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.repeat((0.5 * tone(seconds, rate, hertz) * 32767).astype("<i2")[:, None], channels, axis=1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())


def _write_sound(container, stream, samples: np.ndarray, rate: int, layout: str) -> None:
    step = 1024  # PyAV converts to the encoder's own sample format
    for first in range(0, samples.size, step):
        block = np.tile(samples[first : first + step], (2 if layout == "stereo" else 1, 1))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate, first
        container.mux(stream.encode(frame))
    container.mux(stream.encode())
