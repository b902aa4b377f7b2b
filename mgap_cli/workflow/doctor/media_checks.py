"""Check that clips in the formats of the published data sets can be decoded, each in another process."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mgap_cli.errors import reason_of
from mgap_cli.workflow.doctor.check import Check

_SECONDS = 60.0  # time in seconds after which a decoder counts as hung
_NOT_ENCODED = "FFmpeg cannot encode a clip"
_WHITE, _LOUD = 200, 0.05  # smallest similarity of decoded frames and sound; both formats are lossy


def media_checks() -> list[Check]:
    """Return one check per format. Each encodes a clip and decodes it as `mgap prepare` does."""
    try:
        from mgap_cli.data.media.sample_clips import FORMATS
        from mgap_cli.data.prepare.workers import run_watched

        with tempfile.TemporaryDirectory(prefix="mgap-doctor-") as folder:
            tasks = list(enumerate(Path(folder) / f"clip{suffix}" for suffix in FORMATS))
            ended = run_watched(_job, (), tasks, 1, _SECONDS)
            reasons = {row: cause or result for row, result, cause in ended}
    except (ImportError, OSError, RuntimeError) as error:
        return [Check("decoding", "broken", f"cannot be tried: {reason_of(error)}.")]
    return [_check(path.suffix, FORMATS[path.suffix], reasons[row]) for row, path in tasks]


def _check(suffix: str, codecs: tuple[str, str], reason: str) -> Check:
    name = f"decode {suffix}"
    described = f"{codecs[0].removeprefix('lib')} and {codecs[1].removeprefix('lib')}"
    if not reason:
        return Check(name, "ok", described)
    if reason.startswith(_NOT_ENCODED):
        return Check(name, "warning", f"{described}: not tried, because {reason}.")
    hint = "Install decord (decord2 where there is no decord) and av again, with --force-reinstall."
    return Check(name, "broken", f"{described}: {reason}.", hint)


def _job() -> _Decoder:
    return _Decoder()


class _Decoder:
    """Encode a clip at a path and decode it; return what is wrong, or ""."""

    def __call__(self, path: Path) -> str:
        from mgap_cli.config import DataConfig
        from mgap_cli.data.clips import Clip, Undecodable
        from mgap_cli.data.media.decode import read_media
        from mgap_cli.data.media.sample_clips import write_sample_clip
        from mgap_cli.errors import MgapError

        try:
            write_sample_clip(path)
        except (OSError, ValueError) as error:
            return f"{_NOT_ENCODED} ({reason_of(error)})"
        try:
            config = DataConfig(frames=2, frame_size=32, sample_rate=8000)
            frames, wave = read_media(Clip("clip", "", "train", video=path), config)
        except (Undecodable, MgapError, ImportError, OSError) as error:
            return reason_of(error)
        if frames.mean() < _WHITE or abs(wave).mean() < _LOUD:
            return "the decoded frames or the decoded sound are not those that were encoded"
        return ""
