"""Media that is damaged, in the wrong place or unreadable: only the clip itself is lost."""

from __future__ import annotations

import csv
import os
import random
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.media import turned, write_media
from helpers.program import Done, mgap, sets

from mgap_cli.config import DataConfig
from mgap_cli.data.clips import Clip
from mgap_cli.data.media.decode import obstacle, read_media
from mgap_cli.data.sources import load_dataset
from mgap_cli.data.store import open_store, verify
from mgap_cli.errors import UnfitError

FAST = sets(
    *("data.frames=1", "data.frame_size=32", "data.sample_rate=8000", "data.seconds=0.3"),
    *("data.n_fft=64", "data.hop=40", "data.val_share=0"),
)
QUARTERS = DataConfig(frames=4, frame_size=32, sample_rate=8000)
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def read(path: Path, audio: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    return read_media(Clip(path.stem, "x", "train", path, audio), QUARTERS)


def assert_as_encoded(frames: np.ndarray, wave: np.ndarray) -> None:
    """Assert that these are the frames and the tone that `write_media` writes."""
    red = frames[:, 4:12, 8:24, 0].mean(axis=(1, 2)) / 255
    np.testing.assert_allclose(red, [0.125, 0.375, 0.625, 0.875], atol=0.06)
    assert frames[:, 20:28, :, 2].mean() > 200
    assert abs(float(np.argmax(np.abs(np.fft.rfft(wave)))) * 8000 / wave.size - 440) < 5


def manifest(folder: Path, paths: dict[str, str]) -> Path:
    """Write a manifest of {id: path}, in which two labels alternate."""
    rows = [f"{name},{path},train,{'ab'[i % 2]}" for i, (name, path) in enumerate(paths.items())]
    file = folder / "manifest.csv"
    file.write_text("\n".join(["id,path,split,word", *rows, ""]))
    return file


def skipped(store: Path) -> dict[str, str]:
    with (store / "skipped.csv").open() as file:
        return {row["id"]: row["reason"] for row in csv.DictReader(file)}


# --- what containers hold


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sorenson.flv", {"video_codec": "flv"}),  # the format of CREMA-D
        ("stereo.flv", {"video_codec": "flv", "layout": "stereo", "rate": 44_100}),
        ("stereo.mpg", {"layout": "stereo"}),
        ("odd.mp4", {"size": (97, 63)}),
        ("narrow.mp4", {"size": (18, 200)}),
        ("wide.mp4", {"size": (1919, 33)}),
        ("slow.mp4", {"fps": 8, "seconds": 4.0}),
        ("fast.mp4", {"fps": 1000}),
    ],
)
def test_codecs_sizes_and_frame_rates(tmp_path, name, options):
    assert_as_encoded(*read(write_media(tmp_path / name, **options)))


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_video_comes_out_upright(tmp_path, degrees):
    frames, wave = read(turned(write_media(tmp_path / "a.mp4"), degrees))
    assert_as_encoded(np.rot90(frames, degrees // 90, axes=(1, 2)), wave)


@pytest.mark.parametrize("claim", [-25.0, 0.0, 1e9, -1e300, float("inf"), float("nan")])
@pytest.mark.parametrize("key", [b"framerate", b"duration"])
def test_what_an_flv_claims_of_its_times_does_not_matter(tmp_path, media_file, key, claim):
    content = bytearray(media_file(".flv").read_bytes())
    value = content.index(key + b"\0") + len(key) + 1
    content[value : value + 8] = struct.pack(">d", claim)
    path = tmp_path / "claim.flv"
    path.write_bytes(content)
    assert_as_encoded(*read(path))


@pytest.mark.parametrize("code", [0, 1, 9, 14, 15])
def test_mpeg_with_any_frame_rate_code_works(tmp_path, media_file, code):
    content = media_file(".mpg").read_bytes()
    parts = content.split(b"\0\0\1\xb3")
    coded = [part[:3] + bytes([part[3] & 0xF0 | code]) + part[4:] for part in parts[1:]]
    path = tmp_path / "code.mpg"
    path.write_bytes(b"\0\0\1\xb3".join([parts[0], *coded]))
    assert_as_encoded(*read(path))


def test_mp3_beside_a_folder_of_frames_that_macos_has_seen(tmp_path, media_file):
    import av
    from PIL import Image

    frames = tmp_path / "clip"
    frames.mkdir()
    (frames / "._2.jpg").write_bytes(b"\0\5\26\7 resource fork")
    for i in (10, 2):
        Image.fromarray(np.full((16, 16, 3), i * 20, np.uint8)).save(frames / f"{i}.jpg")
    with av.open(str(media_file(".flv"))) as source, av.open(str(tmp_path / "a.mp3"), "w") as sound:
        stream = sound.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                sound.mux(packet)
    pictures, wave = read(frames, tmp_path / "a.mp3")
    assert pictures[:, 8, 8, 0].tolist() == pytest.approx([40, 40, 200, 200], abs=2)
    assert abs(float(np.argmax(np.abs(np.fft.rfft(wave)))) * 8000 / wave.size - 440) < 5


# --- what the file system does


@pytest.fixture
def nobody() -> Iterator[None]:
    """Run one test without root's rights, because permissions do not stop root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)
    yield
    os.seteuid(user)


@pytest.fixture
def open_folder(tmp_path_factory) -> Iterator[Path]:
    """A folder that every user can read; pytest's temporary folders are not."""
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="mgap-test-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_file_without_permission_is_an_obstacle(open_folder, request):
    (open_folder / "closed.mp4").write_bytes(b"x")
    (open_folder / "closed.mp4").chmod(0)
    (open_folder / "frames").mkdir(mode=0)
    (open_folder / "VideoFlash").mkdir(mode=0)
    request.getfixturevalue("nobody")
    for name in ("closed.mp4", "frames"):
        assert obstacle(Clip("a", "x", "train", open_folder / name)) == "Permission denied"
    with pytest.raises(UnfitError, match=r"VideoFlash: cannot be read \(Permission denied\)"):
        load_dataset("cremad", open_folder, QUARTERS)


@pytest.mark.parametrize("link", ["up", "absolute", "link", "link to a folder", "circle"])
def test_no_path_leads_out_of_the_manifests_folder(tmp_path, link):
    root = tmp_path / "root"
    root.mkdir()
    secret = write_media(tmp_path / "out" / "secret.mp4")
    path = {"up": "../out/secret.mp4", "absolute": str(secret), "link to a folder": "d/secret.mp4"}.get(
        link, "l"
    )
    (root / "d").symlink_to(secret.parent)
    (root / "l").symlink_to(root / "l" if link == "circle" else secret)
    done = mgap("prepare", "manifest", manifest(root, {"a": path}), "-o", tmp_path / "s", *FAST)
    done.fails(3, "line 2", "form a loop" if link == "circle" else "leaves the manifest's folder")
    assert not (tmp_path / "s").exists()


def test_pointers_in_place_of_media(tmp_path, shared_data):
    from helpers.media import write_wav

    names = ["1001_DFA_ANG_XX", "1002_DFA_HAP_XX", "1003_DFA_SAD_XX"]
    for name in names:
        write_wav(tmp_path / "AudioWAV" / f"{name}.wav", seconds=0.5, rate=16_000, hertz=300)
        video = tmp_path / "VideoFlash" / f"{name}.flv"
        video.parent.mkdir(exist_ok=True)
        shutil.copyfile(shared_data / "cremad" / "lfs_pointer_example.flv", video)
    line = ["prepare", "cremad", tmp_path, "-o", tmp_path / "s"]
    mgap(*line).fails(3, "all 3 clips are Git LFS pointers", f"cd {tmp_path} && git lfs pull")
    write_media(tmp_path / "VideoFlash" / f"{names[0]}.flv", video_codec="flv")
    mgap(*line).fails(3, "2 of 3 clips", "2 x Git LFS pointer", f"cd {tmp_path} && git lfs pull")


# --- a campaign of damage


class Damage:
    """Damages intact media files at random, by a seed; `intact` are {suffix: content}."""

    NAMES = ("flip", "cut", "hole", "swap", "insert", "graft", "rename", "header", "replace")

    def __init__(self, intact: dict[str, bytes], seed: int) -> None:
        self.intact, self.rng = intact, random.Random(seed)

    def file(self, damage_name: str) -> tuple[str, bytes]:
        """Return a suffix and a damaged content."""
        rng = self.rng
        suffix = rng.choice(list(self.intact))
        other = rng.choice([s for s in self.intact if s != suffix])
        data = bytearray(self.intact[suffix])
        at, length = rng.randrange(len(data)), rng.choice([1, 16, 512, 4096])
        if damage_name == "flip":
            for position in rng.sample(range(len(data)), rng.choice([1, 10, 100])):
                data[position] ^= 1 << rng.randrange(8)
        elif damage_name == "cut":
            del data[at:]
        elif damage_name == "hole":
            data[at : at + length] = bytes(length)
        elif damage_name == "swap":
            blocks = [data[i : i + 512] for i in range(0, len(data), 512)]
            i, j = rng.randrange(len(blocks)), rng.randrange(len(blocks))
            blocks[i], blocks[j] = blocks[j], blocks[i]
            data = bytearray().join(blocks)
        elif damage_name == "insert":
            data[at:at] = rng.randbytes(length)
        elif damage_name == "graft":
            data = data[:at] + self.intact[other][at // 2 :]
        elif damage_name == "rename":
            suffix = rng.choice([other, ".wav", ".txt"])
        elif damage_name == "header":
            data[: min(length, 512)] = rng.randbytes(min(length, 512))
        else:
            data = bytearray(
                rng.choice([b"", POINTER.encode(), rng.randbytes(2000), b"\0" * 2000, b"<html>"])
            )
        return suffix, bytes(data)


def campaign(folder: Path, media_file, damaged: int, seed: int) -> tuple[Done, dict[str, bool]]:
    """Prepare `damaged` broken files and a tenth as many intact ones; return {id: whether it was intact}."""
    suffixes = (".mp4", ".flv", ".mpg", ".avi")
    intact = {suffix: media_file(suffix).read_bytes() for suffix in suffixes}
    damage = Damage(intact, seed)
    media = folder / "media"
    media.mkdir()
    truth: dict[str, bool] = {}
    paths: dict[str, str] = {}
    for i in range(damaged + damaged // 10):
        whole = i % 11 == 10
        damage_name = "intact" if whole else damage.NAMES[i % len(damage.NAMES)]
        suffix = suffixes[i // 11 % 4]
        suffix, content = (suffix, intact[suffix]) if whole else damage.file(damage_name)
        name = f"{i:04}-{damage_name}"
        (media / f"{name}{suffix}").write_bytes(content)
        truth[name], paths[name] = whole, f"{name}{suffix}"
    line = ["prepare", "manifest", manifest(media, paths), "-o", folder / "s", "--allow-skips"]
    return mgap(*line, *FAST, "--set", "data.val_share=0"), truth


def assert_survived(folder: Path, done: Done, truth: dict[str, bool], media_file) -> None:
    assert done.code == 0 and "Traceback" not in done.err and "unexpected" not in done.err, done.err
    store, lost = open_store(folder / "s"), skipped(folder / "s")
    assert verify(store) and not set(store.ids) & lost.keys() and set(store.ids) | lost.keys() == truth.keys()
    assert all(reason and "\n" not in reason for reason in lost.values())
    assert f"{len(lost)} clips skipped" in done.err
    config = store.data_config
    for i, name in enumerate(store.ids):
        if truth[name]:
            path = folder / "media" / store.columns["video"][i]
            frames, _ = read_media(Clip(name, "a", "train", path), config)
            np.testing.assert_array_equal(store.frames[i], frames)
    assert all(name in store.ids for name, whole in truth.items() if whole), "an intact clip was lost"


def test_only_damaged_clips_are_lost(tmp_path, media_file):
    done, truth = campaign(tmp_path, media_file, 40, seed=0)
    assert_survived(tmp_path, done, truth, media_file)
    assert len(skipped(tmp_path / "s")) > 5


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_long_campaign_of_damage(tmp_path, media_file, seed):
    done, truth = campaign(tmp_path, media_file, 250, seed)
    assert_survived(tmp_path, done, truth, media_file)
