"""From a researcher's files to clips: the real lists, and small files with the real names."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgap_cli.config import DataConfig, preset, presets
from mgap_cli.data.clips import Clip
from mgap_cli.data.sources import load_dataset, source_names
from mgap_cli.data.splits import carve_validation, stratified_choice
from mgap_cli.errors import ExitCode, MgapError, UnfitError, UsageError

CONFIG = DataConfig()


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def splits_of(dataset) -> Counter:
    return Counter(clip.split for clip in dataset.clips)


# --- registry and presets


def test_every_source_is_found_by_name():
    assert source_names() == ["ave", "cremad", "digits", "features", "kinetics-sounds", "manifest"]
    with pytest.raises(UsageError) as caught:
        load_dataset("cremed", None, CONFIG)
    assert "cremad" in caught.value.hint


def test_an_option_of_another_source_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cremad has no option --variant"):
        load_dataset("cremad", None, CONFIG, variant="late")
    with pytest.raises(UsageError, match="digits has no option --label"):
        load_dataset("digits", None, CONFIG, label="x")
    with pytest.raises(UsageError, match="ave has no option --split"):
        load_dataset("ave", tmp_path, CONFIG, split_files=[tmp_path / "train.csv"])


@pytest.mark.parametrize("name", ["cremad", "ave", "kinetics-sounds"])
def test_a_root_is_needed_and_must_be_a_folder(name, tmp_path):
    with pytest.raises(UsageError, match="needs its folder"):
        load_dataset(name, None, CONFIG)
    with pytest.raises(UnfitError, match="no such folder"):
        load_dataset(name, tmp_path / "nowhere", CONFIG)


def test_presets_have_the_protocols():
    assert {"ave", "cremad", "digits", "kinetics-sounds"} <= set(presets())
    assert preset("cremad").data == DataConfig()
    assert (preset("ave").data.seconds, preset("ave").data.frames) == (10.0, 3)
    assert preset("digits").data.sample_rate == 8000


# --- splits


@given(
    labels=st.lists(st.sampled_from("abcd"), min_size=1, max_size=200),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_a_stratified_choice_has_the_share_in_every_stratum(labels, share, seed):
    strata = {str(i): label for i, label in enumerate(labels)}
    chosen = stratified_choice(strata, share, seed)
    assert len(chosen) == round(share * len(labels))
    for label in set(labels):
        members = {key for key, value in strata.items() if value == label}
        assert abs(len(chosen & members) - share * len(members)) < 1 + 1e-6
    shuffled = dict(reversed(list(strata.items())))
    assert stratified_choice(shuffled, share, seed) == chosen


def test_validation_comes_from_train_alone_and_only_where_there_is_none():
    clips = [Clip(str(i), "ab"[i % 2], "test" if i < 20 else "train", group=str(i // 10)) for i in range(120)]
    carved = carve_validation(clips, 0.1, seed=0)
    assert Counter(c.split for c in carved) == {"train": 90, "val": 10, "test": 20}
    assert Counter(c.label for c in carved if c.split == "val") == {"a": 5, "b": 5}
    assert carve_validation(carved, 0.5, seed=1) == carved
    assert carve_validation(clips, 0.1, seed=1) != carved
    grouped = carve_validation(clips, 0.2, seed=0, groups={str(i): "" for i in range(12)})
    groups = {s: {c.group for c in grouped if c.split == s} for s in ("train", "val")}
    assert len(groups["val"]) == 2 and not groups["train"] & groups["val"]


# --- digits


def test_digits_are_reproducible_and_as_stated():
    config = preset("digits").data
    one, two = (load_dataset("digits", None, config) for _ in range(2))
    assert one.digest() == two.digest() and len(one.clips) == 1797
    assert splits_of(one) == {"train": 1132, "val": 126, "test": 539}
    fates = Counter(clip.extra["degraded"] for clip in one.clips)
    assert fates["visual"] == fates["audio"] == 449
    for split in ("train", "test"):
        shares = Counter(clip.extra["degraded"] for clip in one.clips if clip.split == split)
        assert abs(shares["audio"] / shares.total() - 0.25) < 0.02
    assert one.reader is not None and two.reader is not None
    for clip in one.clips[::300]:
        first, second = one.reader(clip, config), two.reader(clip, config)
        assert first[0].shape == (3, 32, 32, 3) and first[1].shape == (4000,)
        assert all((a == b).all() for a, b in zip(first, second, strict=True))
        assert (first[0][0] != first[0][1]).any(), "the card moves"
    other = load_dataset("digits", None, DataConfig(**{**vars(config), "seed": 1}))
    assert other.digest() != one.digest()


def test_a_digit_sounds_as_its_key_does(monkeypatch):
    from mgap_cli.data.sources import digits

    monkeypatch.setattr(digits, "SNR_DB", (40.0, 40.0))
    config = preset("digits").data
    pairs = {1: (697, 1209), 5: (770, 1336), 9: (852, 1477), 0: (941, 1336)}  # ITU-T Q.23, table 1
    for digit, pair in pairs.items():
        wave = digits._tone(np.random.default_rng(digit), digit, config, degraded=False)
        power = np.abs(np.fft.rfft(wave, 8000))  # 1 Hz per bin
        low, high = np.argmax(power[600:1075]) + 600, np.argmax(power[1075:1700]) + 1075
        assert abs(low - pair[0]) < 12 and abs(high - pair[1]) < 12


def test_the_column_degraded_marks_the_degraded_digits():
    config = preset("digits").data
    dataset = load_dataset("digits", None, config)
    assert dataset.reader is not None
    noise = {"none": [], "visual": [], "audio": []}
    for clip in dataset.clips[:120]:
        frames, _ = dataset.reader(clip, config)
        rough = np.abs(np.diff(frames.astype(float), axis=2)).mean()
        noise[clip.extra["degraded"]].append(rough)
    assert np.mean(noise["visual"]) > 1.5 * np.mean(noise["none"])
    assert np.mean(noise["audio"]) == pytest.approx(np.mean(noise["none"]), rel=0.1)


@pytest.mark.parametrize("variant", ["late", "memorised", "uninformative", "degraded"])
def test_a_variant_replaces_every_picture_and_no_sound(variant):
    config = preset("digits").data
    plain, other = load_dataset("digits", None, config), load_dataset("digits", None, config, variant=variant)
    assert other.options == {"variant": variant} and other.digest() != plain.digest()
    assert splits_of(other) == splits_of(plain)
    assert plain.reader is not None and other.reader is not None
    for before, clip in zip(plain.clips[:40], other.clips[:40], strict=True):
        (old, sound), (new, same) = plain.reader(before, config), other.reader(clip, config)
        assert (clip.id, clip.label, clip.split) == (before.id, before.label, before.split)
        assert new.shape == old.shape and new.dtype == np.uint8 and (sound == same).all()
        spoilt = before.extra["degraded"]
        kept = variant == "degraded" and spoilt == "visual"  # also degraded without a variant
        assert (new == old).all() == kept
        visual, audio = (clip.extra["degraded"] in (name, "both") for name in ("visual", "audio"))
        assert visual == (variant != "late") and audio == (spoilt == "audio")


def test_how_informative_the_pictures_of_a_variant_are():
    """A linear classifier of 10 digits, fitted to half of 600 pictures, is at chance or far above it."""
    from sklearn.linear_model import LogisticRegression

    config = preset("digits").data

    def accuracy(variant: str, features) -> tuple[float, float]:
        dataset = load_dataset("digits", None, config, variant=variant)
        assert dataset.reader is not None
        x = np.stack([features(dataset.reader(clip, config)[0] / 255.0) for clip in dataset.clips[:600]])
        y = np.array([int(clip.label) for clip in dataset.clips[:600]])
        x = (x - x.mean(axis=0)) / x.std(axis=0)
        classifier = LogisticRegression(C=100, max_iter=2000).fit(x[:300], y[:300])
        return classifier.score(x[:300], y[:300]), classifier.score(x[300:], y[300:])

    def tiles(frames):
        return frames.mean(axis=0).reshape(4, 8, 4, 8, 3).mean(axis=(1, 3)).ravel()

    def directions(frames):
        """Power by direction, at the frequencies of the stripes."""
        power = np.abs(np.fft.fft2(frames.mean(axis=3) - frames.mean(), axes=(1, 2))) ** 2
        y, x = np.meshgrid(*[np.fft.fftfreq(frames.shape[1])] * 2, indexing="ij")
        ring = (np.hypot(x, y) > 0.12) & (np.hypot(x, y) < 0.24)
        sector = np.floor((np.arctan2(y, x) % np.pi) / np.pi * 20).astype(int) % 20
        return np.log([power[:, ring & (sector == s)].mean() for s in range(20)])

    train, held_out = accuracy("memorised", tiles)
    assert train > 0.4 and held_out < 0.2
    assert accuracy("uninformative", tiles)[1] < 0.2
    assert accuracy("uninformative", directions)[1] < 0.2
    assert accuracy("late", directions)[1] > 0.6
    assert accuracy("late", tiles)[1] < 0.25


# --- manifest


def manifest(tmp_path: Path, text: str, **options) -> list[Clip]:
    path = tmp_path / "m.csv"
    path.write_text(text, encoding="utf-8")
    return list(load_dataset("manifest", path, DataConfig(val_share=0), **options).clips)


def test_manifest_with_every_column(tmp_path):
    head = "id,path,split,word,audio_path,start,end,group,note,video\n"
    (clip, other) = manifest(
        tmp_path,
        "\ufeff" + head + '-a,v/-a.mp4,train,yes,s/a.wav,0.5,2,anna,"x, y",old\nb,b.mp4,test,no,,,,ben,,\n',
        label="word",
    )
    assert clip.video == tmp_path / "v/-a.mp4" and clip.audio == tmp_path / "s/a.wav"
    assert (clip.id, clip.label, clip.start, clip.end, clip.group) == ("-a", "yes", 0.5, 2.0, "anna")
    assert clip.extra == {"note": "x, y", "source_video": "old"}
    assert other.audio is None and other.start is None


def test_manifest_takes_the_one_column_that_can_be_the_label(tmp_path):
    assert manifest(tmp_path, "id,path,split,word\na,a.mp4,train,yes\n")[0].label == "yes"
    with pytest.raises(UsageError, match="several columns could be the label: word, colour"):
        manifest(tmp_path, "id,path,split,word,colour\na,a.mp4,train,yes,red\n")
    with pytest.raises(UsageError, match="no label column 'wurd'") as caught:
        manifest(tmp_path, "id,path,split,word\na,a.mp4,train,yes\n", label="wurd")
    assert "word" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty file"),
        ("id,path,split,word\n", "no rows"),
        ("id,split,word\na,train,x\n", "no column path"),
        ("id,path,split\na,a.mp4,train\n", "no label column"),
        ("id,path,split,word\na,a.mp4,training,x\n", "line 2: split 'training'; expected train, val, test"),
        ("id,path,split,word\na,a.mp4,train,x\na,b.mp4,test,y\n", "line 3: id 'a' is in line 2 already"),
        ("id,path,split,word\na,a.mp4,train,\n", "line 2: no label"),
        ("id,path,split,word\n,a.mp4,train,x\n", "line 2: no id"),
        ("id,path,split,word\na,,train,x\n", "line 2: no path"),
        ("id,path,split,word\na,../a.mp4,train,x\n", "leaves the manifest's folder"),
        ("id,path,split,word\na,/etc/passwd,train,x\n", "leaves the manifest's folder"),
        ("id,path,split,word\na,a.mp4,train\n", "line 2 has 3 fields, but the header has 4"),
        ("id,path,split,word,start\na,a.mp4,train,x,soon\n", "start is 'soon'"),
        ("id,path,split,word,start,end\na,a.mp4,train,x,3,2\n", "end 2 is not after start 3"),
        ("id,path,split,word\na,a.mp4,test,x\n", "the split train has no row"),
        ("id,id,path,split,word\na,a,a.mp4,train,x\n", "two columns are named 'id'"),
    ],
)
def test_manifest_that_is_unfit_says_where(tmp_path, text, message):
    with pytest.raises(UnfitError, match=re.escape(message)) as caught:
        manifest(tmp_path, text)
    assert caught.value.exit_code == ExitCode.UNFIT and str(tmp_path) in caught.value.message


def test_a_link_out_of_the_manifests_folder_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out.mp4").touch()
    (tmp_path / "in" / "a.mp4").symlink_to(tmp_path / "out.mp4")
    with pytest.raises(UnfitError, match="leaves"):
        manifest(tmp_path / "in", "id,path,split,word\na,a.mp4,train,x\n")


@given(st.binary(max_size=300))
@settings(max_examples=80, deadline=None)
def test_no_bytes_crash_the_manifest_reader(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("m") / "m.csv"
    path.write_bytes(content)
    with pytest.raises(MgapError):
        load_dataset("manifest", path, CONFIG)


def test_manifest_reports_groups_in_two_splits(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("id,path,split,word,group\na,a.mp4,train,x,anna\nb,b.mp4,test,y,anna\n")
    notes = load_dataset("manifest", path, DataConfig(val_share=0)).notes
    assert "labels without a training clip: y" in notes
    assert "1 groups are in more than one split: anna" in notes


def test_grid_manifest(shared_data):
    dataset = load_dataset("manifest", shared_data / "grid" / "manifest.csv", CONFIG, label="colour")
    assert splits_of(dataset) == {"train": 700, "val": 100, "test": 200} and len(dataset.classes) == 4
    assert dataset.clips[0].extra == {"digit": "eight"}


# --- CREMA-D


@pytest.fixture(scope="module")
def cremad(shared_data, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("cremad")
    for folder in ("AudioWAV", "VideoFlash"):
        (root / folder).mkdir()
    for name in (shared_data / "cremad" / "files.txt").read_text().split():
        (root / name).touch()
    shutil.copy(shared_data / "cremad" / "VideoDemographics.csv", root)
    return root


def test_cremad_with_the_literatures_split(cremad, shared_data):
    files = [shared_data / "cremad" / f"{split}.csv" for split in ("train", "test")]
    dataset = load_dataset("cremad", cremad, DataConfig(val_share=0), split_files=files)
    assert splits_of(dataset) == {"train": 6698, "test": 744}
    assert dataset.classes == ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
    clip = next(c for c in dataset.clips if c.id == "1001_DFA_ANG_XX")
    assert clip.video == cremad / "VideoFlash/1001_DFA_ANG_XX.flv"
    assert clip.audio == cremad / "AudioWAV/1001_DFA_ANG_XX.wav"
    assert (clip.label, clip.group) == ("ANG", "1001")
    assert "91 speakers are in both" in dataset.notes[0]
    carved = load_dataset("cremad", cremad, CONFIG, split_files=files)
    assert splits_of(carved) == {"train": 6028, "val": 670, "test": 744}


def test_cremad_splits_of_ours(cremad):
    random = load_dataset("cremad", cremad, CONFIG, split="random")
    assert splits_of(random)["test"] == 744 and "speakers are in both" in random.notes[0]
    speaker = load_dataset("cremad", cremad, CONFIG, split="speaker")
    groups = {s: {c.group for c in speaker.clips if c.split == s} for s in ("train", "val", "test")}
    assert not groups["train"] & groups["test"] and not groups["train"] & groups["val"]
    assert len(groups["test"]) == 9 and not speaker.notes


def test_cremad_lists_with_bom_and_header(tmp_path):
    for suffix, name in ((".flv", "VideoFlash"), (".wav", "AudioWAV")):
        touch(tmp_path / name / f"1001_DFA_ANG_XX{suffix}")
    train = tmp_path / "train.csv"
    train.write_bytes("\ufeffclip,label\r\n1001_DFA_ANG_XX,ANG\r\n".encode())
    (clip,) = load_dataset("cremad", tmp_path, DataConfig(val_share=0), split_files=[train]).clips
    assert clip.id == "1001_DFA_ANG_XX" and clip.split == "train"
    for text, message in [
        ("1001_DFA_ANG_XX,HAP\n", "label 'HAP' contradicts"),
        ("1001_DFA_ANG_XX,ANG\nnonsense,ANG\n", "line 2: 'nonsense'"),
        ("", "empty file"),
    ]:
        train.write_text(text)
        with pytest.raises(UnfitError, match=message):
            load_dataset("cremad", tmp_path, CONFIG, split_files=[train])


def test_cremad_layouts_of_other_scripts(tmp_path):
    touch(tmp_path / "VideoMP4" / "1001_DFA_ANG_XX.mp4")
    touch(tmp_path / "AudioMP3" / "1001_DFA_ANG_XX.mp3")
    touch(tmp_path / "Image-01-FPS" / "1002_DFA_HAP_XX" / "0001.jpg")
    touch(tmp_path / "AudioWAV" / "1002_DFA_HAP_XX.wav")
    first, second = load_dataset("cremad", tmp_path, DataConfig(val_share=0)).clips
    assert first.video and first.video.suffix == ".mp4" and first.audio and first.audio.suffix == ".mp3"
    assert second.video == tmp_path / "Image-01-FPS" / "1002_DFA_HAP_XX"
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnfitError, match="no CREMA-D clips found"):
        load_dataset("cremad", tmp_path / "empty", CONFIG)


# --- AVE


@pytest.fixture(scope="module")
def ave(shared_data, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("ave")
    shutil.copytree(shared_data / "ave", root, dirs_exist_ok=True, copy_function=shutil.copyfile)
    return root


def test_ave_leaks_are_reported_and_dropped(ave):
    dataset = load_dataset("ave", ave, CONFIG)
    assert len(dataset.classes) == 28 and any("," in name for name in dataset.classes)
    assert "8 videos are in both train and test: dropped from train" in dataset.notes
    assert "10 videos are in both train and val: dropped from train" in dataset.notes
    groups = {s: {c.group for c in dataset.clips if c.split == s} for s in ("train", "val", "test")}
    assert not groups["train"] & (groups["val"] | groups["test"])
    ids = [clip.id for clip in dataset.clips]
    assert len(ids) == len(set(ids)) and sum(i.startswith("-") for i in ids) > 900
    kept = load_dataset("ave", ave, CONFIG, keep_leaks=True)
    assert splits_of(kept) == {"train": 3339, "val": 402, "test": 402}
    assert len({clip.id for clip in kept.clips}) == 4143 and kept.options["keep_leaks"] is True


def test_ave_events_and_whole_clips(ave):
    assert all(clip.start is None for clip in load_dataset("ave", ave, CONFIG).clips)
    dataset = load_dataset("ave", ave, CONFIG, segment="event")
    whole = [clip for clip in dataset.clips if clip.start is None]
    assert len(whole) == 1, "the one event that lasts no time"
    assert all(clip.start < clip.end for clip in dataset.clips if clip.start is not None)


def test_ave_with_the_published_header_and_a_bad_line(tmp_path):
    line = "Male speech, man speaking&-abc&good&0&10\n"
    for name in ("trainSet.txt", "valSet.txt", "testSet.txt"):
        (tmp_path / name).write_text(line.replace("-abc", f"-{name}"))
    annotations = "".join((tmp_path / n).read_text() for n in ("trainSet.txt", "valSet.txt", "testSet.txt"))
    (tmp_path / "Annotations.txt").write_text("Category&VideoID&Quality&StartTime&EndTime\n" + annotations)
    assert len(load_dataset("ave", tmp_path, CONFIG).clips) == 3
    (tmp_path / "testSet.txt").write_text(line + "Bell&x&good&0\n")
    with pytest.raises(UnfitError, match=r"testSet\.txt: line 2 is not Category&VideoID"):
        load_dataset("ave", tmp_path, CONFIG)
    (tmp_path / "testSet.txt").unlink()
    with pytest.raises(UnfitError, match=r"testSet\.txt: no such file"):
        load_dataset("ave", tmp_path, CONFIG)


# --- Kinetics-Sounds


def test_kinetics_sounds_from_the_real_lists(shared_data, tmp_path):
    source = shared_data / "kinetics_sounds"
    classes = (source / "classes.txt").read_text().split()
    for name in ("my_train.txt", "my_test.txt"):
        shutil.copyfile(source / name, tmp_path / name)
    train = [line.split(",") for line in (source / "my_train.txt").read_text().split()][:60]
    test = [line.split(",") for line in (source / "my_test.txt").read_text().split()][:20]
    for i, (name, _, label) in enumerate(train):  # three layouts, one after the other
        folder = [f"train/{classes[int(label)]}", "train", classes[int(label)].replace("_", " ")][i % 3]
        touch(tmp_path / folder / f"{name}.mp4")
    for name, _, _ in test:
        touch(tmp_path / f"{name}.mp4")
    dataset = load_dataset("kinetics-sounds", tmp_path, DataConfig(val_share=0))
    assert splits_of(dataset) == {"train": 60, "test": 20}
    assert dataset.classes == tuple(classes)
    labels = {name: classes[int(label)] for name, _, label in train + test}
    assert all(labels[clip.id] == clip.label for clip in dataset.clips)
    assert {len(clip.group) for clip in dataset.clips} == {11}
    assert any("of 17396 listed clips are not on disk: blowing_nose" in note for note in dataset.notes)
    with pytest.raises(UnfitError, match="not on disk"):
        load_dataset("kinetics-sounds", tmp_path, CONFIG, strict=True)


@pytest.mark.parametrize("folder", ["val/playing drums", "val/playing_drums", "val", "test", ""])
def test_kinetics_files_are_found_by_their_youtube_ids(tmp_path, folder):
    """The test list numbers its clips; the files of Kinetics are named by their seconds."""
    (tmp_path / "my_train.txt").write_text(
        "--4-0ihtnBU_000058_000068,10,11\nabcdefghijk_000000_000010,10,11\n"
    )
    (tmp_path / "my_test.txt").write_text("-3Mwkq-7TV4_2,10,11\n-74csnCOiUs_0,10,11\n")
    kept = [
        tmp_path / "train" / "--4-0ihtnBU_000058_000068.mp4",
        tmp_path / folder / "-3Mwkq-7TV4_000012_000022.mp4",
    ]
    other = tmp_path / "train" / "-74csnCOiUs_000001_000011.mp4"  # of another split: not taken
    for path in (*kept, other):
        touch(path)
    dataset = load_dataset("kinetics-sounds", tmp_path, DataConfig(val_share=0))
    assert [clip.id for clip in dataset.clips] == ["--4-0ihtnBU_000058_000068", "-3Mwkq-7TV4_2"]
    assert [clip.video for clip in dataset.clips] == kept
    assert any("2 of 4 listed clips are not on disk: playing_drums 2" in note for note in dataset.notes)
