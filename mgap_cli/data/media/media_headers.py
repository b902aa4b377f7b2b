"""Remove impossible frame rates and durations from the headers of media files.

FFmpeg, and therefore decord, trusts the header. It refuses an FLV file whose metadata give -25 frames per
second. It runs out of memory on a file that claims to last a billion seconds. It does not open MPEG video
whose code for the frame rate is invalid. The frames of such files are intact, and their time stamps do not
depend on these values.
"""

from __future__ import annotations

import struct
from pathlib import Path

_HEAD = 4096  # length in bytes of the part that contains the header
_LONGEST = 1e5  # seconds
_FASTEST = 1000.0  # frames per second
_SEQUENCE = b"\0\0\1\xb3"  # start code of an MPEG sequence header
_FORBIDDEN = {0, 14, 15}  # frame rate codes without a rate
_USUAL_CODE = 3  # 25 frames per second


def without_false_claims(path: Path) -> bytes | None:
    """Return the file's content without impossible values in its header; None if it has none of them."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head[:3] == b"FLV":
        limits = {b"framerate": _FASTEST, b"duration": _LONGEST}
        if any(not 0 <= value <= limit for name, limit in limits.items() for value in _numbers(head, name)):
            # FFmpeg skips a block with an unknown name and measures the values itself.
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
