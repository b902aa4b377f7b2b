"""What a media file claims of its frame rate and duration, taken back where it cannot be true.

FFmpeg, and so decord, believes the header: an FLV whose metadata say -25 frames per second is refused as
broken, one that says it lasts a billion seconds ends the process for want of memory, and MPEG video with
a frame rate code that the standard forbids is not opened. The frames themselves are sound, and their time
stamps do not hang on those claims.
"""

from __future__ import annotations

import struct
from pathlib import Path

_HEAD = 4096  # bytes in which a header lies
_LONGEST = 1e5  # seconds
_FASTEST = 1000.0  # frames per second
_SEQUENCE = b"\0\0\1\xb3"  # start code of an MPEG sequence header
_FORBIDDEN = {0, 14, 15}  # frame rate codes without a rate
_USUAL_CODE = 3  # 25 frames per second


def without_false_claims(path: Path) -> bytes | None:
    """Return the file's content without the claims that cannot be true; None if it makes none."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head[:3] == b"FLV":
        limits = {b"framerate": _FASTEST, b"duration": _LONGEST}
        if any(not 0 <= value <= limit for name, limit in limits.items() for value in _numbers(head, name)):
            # Under another name the block is skipped, and FFmpeg measures instead.
            return path.read_bytes().replace(b"onMetaData", b"onNothing.", 1)
    elif head[:3] == b"\0\0\1" and _rate_codes(head) & _FORBIDDEN:
        return _with_usual_rate(path.read_bytes())
    return None


def _numbers(head: bytes, name: bytes) -> list[float]:
    """Return the value of the named number in FLV metadata: its name, type 0, a big-endian double."""
    at = head.find(name + b"\0")
    value = head[at + len(name) + 1 :][:8]
    return list(struct.unpack(">d", value)) if at >= 0 and len(value) == 8 else []


def _rate_codes(head: bytes) -> set[int]:
    at = head.find(_SEQUENCE)
    return {head[at + 7] & 0x0F} if 0 <= at < len(head) - 7 else set()


def _with_usual_rate(content: bytes) -> bytes:
    mended, at = bytearray(content), content.find(_SEQUENCE)
    while 0 <= at < len(mended) - 7:
        mended[at + 7] = mended[at + 7] & 0xF0 | _USUAL_CODE
        at = content.find(_SEQUENCE, at + 1)
    return bytes(mended)
