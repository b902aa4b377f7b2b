"""From clips to a store: it is complete or absent, and the same for any way to build it."""

from __future__ import annotations

import csv
import dataclasses
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.media import write_media

from mgap_cli.config import DataConfig
from mgap_cli.data.clips import Clip, Dataset
from mgap_cli.data.prepare import build as build_module
from mgap_cli.data.prepare.build import build_store
from mgap_cli.data.prepare.row_file import RowFile
from mgap_cli.data.prepare.workers import run_watched
from mgap_cli.data.store import is_store, open_store, verify
from mgap_cli.errors import ExitCode, MgapError, UnfitError


@dataclasses.dataclass
class CountingReader:
    """Makes clips from their ids; stops with an error, like a kill, after `limit` clips."""

    limit: int = 10**9
    reads: int = 0

    def __call__(self, clip: Clip, config: DataConfig) -> tuple[np.ndarray, np.ndarray]:
        if self.reads == self.limit:
            raise KeyboardInterrupt
        self.reads += 1
        rng = np.random.default_rng(int(clip.id))
        if clip.extra["fate"] == "broken":
            raise ValueError("beyond repair")
        shape = (config.frames, config.frame_size, config.frame_size, 3)
        return rng.integers(0, 256, shape, np.uint8), rng.normal(0, 0.1, 4000).astype(np.float32)


def made_up(n: int = 40, broken: tuple[int, ...] = (), reader: CountingReader | None = None) -> Dataset:
    clips = [
        Clip(str(i), "ab"[i % 2], "test" if i % 4 == 3 else "train", extra={"fate": "broken" * (i in broken)})
        for i in range(n)
    ]
    return Dataset("made-up", clips, ("a", "b"), reader=reader or CountingReader())


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_a_store_reads_back_as_it_was_made(tmp_path, small_config, sink):
    dataset = made_up()
    store = build_store(dataset, small_config, tmp_path / "s", sink)
    assert store.frames.shape == (40, 2, 32, 32, 3) and store.audio.shape == (40, 65, 63)
    assert store.ids == [c.id for c in dataset.clips] and store.classes == ("a", "b")
    assert store.labels.tolist() == [0, 1] * 20
    assert store.indices("test").tolist() == list(range(3, 40, 4))
    assert store.columns["fate"] == [""] * 40 and store.columns["duration"] == ["0.5"] * 40
    assert store.data_config == small_config and store.meta["counts"] == {"train": 30, "test": 10}
    frames, _ = CountingReader()(dataset.clips[7], small_config)
    np.testing.assert_array_equal(store.frames[7], frames)
    assert verify(store)
    with pytest.raises(UnfitError, match="no samples in split 'val'"):
        store.indices("val")
    with pytest.raises(ValueError, match="read-only"):
        store.frames[0] = 0


def test_a_finished_store_is_left_alone(tmp_path, small_config, sink):
    build_store(made_up(), small_config, tmp_path / "s", sink)
    before = contents(tmp_path / "s")
    reader = CountingReader()
    build_store(made_up(reader=reader), small_config, tmp_path / "s", sink)
    assert reader.reads == 0 and contents(tmp_path / "s") == before


def test_another_configuration_is_refused_by_name_and_forced(tmp_path, small_config, sink):
    build_store(made_up(), small_config, tmp_path / "s", sink)
    other = dataclasses.replace(small_config, frames=1)
    with pytest.raises(UnfitError, match=r"data\.frames 2 -> 1"):
        build_store(made_up(), other, tmp_path / "s", sink)
    with pytest.raises(UnfitError, match="the list of clips"):
        build_store(made_up(39), small_config, tmp_path / "s", sink)
    assert open_store(tmp_path / "s").frames.shape[1] == 2, "the refused store is as it was"
    assert build_store(made_up(), other, tmp_path / "s", sink, force=True).frames.shape[1] == 1


def test_a_forced_build_that_is_cut_short_leaves_the_old_store(tmp_path, small_config, sink):
    build_store(made_up(), small_config, tmp_path / "s", sink)
    other = dataclasses.replace(small_config, frames=1)
    with pytest.raises(KeyboardInterrupt):
        build_store(made_up(reader=CountingReader(5)), other, tmp_path / "s", sink, force=True)
    assert verify(open_store(tmp_path / "s"))


@pytest.mark.parametrize("broken", [(), (5, 17)])
def test_interrupted_and_resumed_is_byte_equal_and_decodes_nothing_twice(
    tmp_path, small_config, sink, broken
):
    build_store(made_up(broken=broken), small_config, tmp_path / "whole", sink)
    total = 0
    for _ in range(3):
        reader = CountingReader(13)
        with pytest.raises(KeyboardInterrupt):
            build_store(made_up(broken=broken, reader=reader), small_config, tmp_path / "s", sink)
        total += reader.reads
        assert not is_store(tmp_path / "s")
        with pytest.raises(UnfitError, match="not a finished store"):
            open_store(tmp_path / "s")
    reader = CountingReader()
    build_store(made_up(broken=broken, reader=reader), small_config, tmp_path / "s", sink)
    assert total + reader.reads == 40
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_a_damaged_row_or_journal_line_is_done_again(tmp_path, small_config, sink):
    build_store(made_up(), small_config, tmp_path / "whole", sink)
    with pytest.raises(KeyboardInterrupt):
        build_store(made_up(reader=CountingReader(20)), small_config, tmp_path / "s", sink)
    partial = tmp_path / "s" / ".partial"
    RowFile(partial / "frames.npy", 40, (2, 32, 32, 3), "|u1").writer()(3, bytes(2 * 32 * 32 * 3))
    journal = (partial / "journal.jsonl").read_text()
    (partial / "journal.jsonl").write_text(journal[:-9])
    reader = CountingReader()
    build_store(made_up(reader=reader), small_config, tmp_path / "s", sink)
    assert reader.reads == 22
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_killed_while_it_renames_it_ends_the_same(tmp_path, small_config, sink, monkeypatch):
    build_store(made_up(broken=(1,)), small_config, tmp_path / "whole", sink)
    real = Path.replace
    for moment in range(5):
        calls = 0

        def replace(self, target, moment=moment):
            nonlocal calls
            if self.parent.name == ".partial" and Path(target).parent.name != ".partial":
                if calls == moment:
                    raise KeyboardInterrupt
                calls += 1
            return real(self, target)

        out = tmp_path / f"s{moment}"
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", replace)
            try:
                build_store(made_up(broken=(1,)), small_config, out, sink)
            except KeyboardInterrupt:
                assert not is_store(out) and moment < 4
        reader = CountingReader(0)
        build_store(made_up(broken=(1,), reader=reader), small_config, out, sink)
        assert contents(out) == contents(tmp_path / "whole")


def test_a_few_broken_clips_are_skipped_recorded_and_reported(tmp_path, small_config, sink, capsys):
    store = build_store(made_up(broken=(7, 12)), small_config, tmp_path / "s", sink)
    assert len(store) == 38 and "7" not in store.ids
    frames, _ = CountingReader()(made_up().clips[13], small_config)
    np.testing.assert_array_equal(store.frames[store.ids.index("13")], frames)
    with (tmp_path / "s" / "skipped.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["7", "12"] and "beyond repair" in rows[0]["reason"]
    assert store.meta["skipped"] == rows
    assert "2 clips skipped: 2 x cannot be decoded: ValueError: beyond repair" in capsys.readouterr().err


def test_too_many_broken_clips_are_refused_unless_allowed(tmp_path, small_config, sink):
    broken = (1, 2, 3)  # of 40: 7.5 %
    with pytest.raises(UnfitError, match="3 of 40 clips cannot be read") as caught:
        build_store(made_up(broken=broken), small_config, tmp_path / "s", sink)
    assert caught.value.exit_code == ExitCode.UNFIT and "--allow-skips" in caught.value.hint
    assert not is_store(tmp_path / "s") and (tmp_path / "s" / "skipped.csv").read_text().count("\n") == 4
    reader = CountingReader()
    store = build_store(
        made_up(broken=broken, reader=reader), small_config, tmp_path / "s", sink, allow_skips=True
    )
    assert len(store) == 37 and reader.reads == 0, "what was decoded before the refusal is not lost"
    with pytest.raises(UnfitError, match="40 of 40"):
        all_broken = made_up(broken=tuple(range(40)))
        build_store(all_broken, small_config, tmp_path / "none", sink, allow_skips=True)


def test_lfs_pointers_everywhere_say_git_lfs_pull(tmp_path, small_config, sink):
    clips = []
    for i in range(3):
        path = tmp_path / f"{i}.flv"
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
        clips.append(Clip(str(i), "a", "train", path))
    with pytest.raises(UnfitError) as caught:
        build_store(Dataset("p", clips, ("a",), root=tmp_path), small_config, tmp_path / "s", sink)
    assert caught.value.hint.endswith("git lfs pull")


def test_two_prepares_in_one_folder_the_second_is_refused(tmp_path, small_config, sink):
    (tmp_path / "s").mkdir()
    with (tmp_path / "s" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(MgapError, match="another prepare is running"):
            build_store(made_up(), small_config, tmp_path / "s", sink)


def test_a_small_disk_is_reported_before_anything_is_decoded(tmp_path, small_config, sink, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(build_module.shutil, "disk_usage", lambda path: usage)
    reader = CountingReader()
    with pytest.raises(MgapError, match=r"1\.6 MB needed, 0\.0 MB available"):
        build_store(made_up(reader=reader), small_config, tmp_path / "s", sink)
    assert reader.reads == 0


def media_dataset(folder: Path, n: int = 8) -> Dataset:
    clips = []
    for i in range(n):
        path = folder / f"-clip{i}.mp4"  # a name that looks like an option
        if not path.exists():
            write_media(path, seconds=0.6, hertz=300 + 50 * i)
        clips.append(Clip(f"-clip{i}", "ab"[i % 2], "train", path))
    return Dataset("media", clips, ("a", "b"), root=folder)


def test_media_stores_do_not_depend_on_the_number_of_workers(tmp_path, small_config, sink):
    dataset = media_dataset(tmp_path / "m")
    one = build_store(dataset, small_config, tmp_path / "one", sink, workers=1)
    build_store(dataset, small_config, tmp_path / "two", sink, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert one.columns["video"][0] == "-clip0.mp4"
    peaks = one.audio.astype(np.float32).mean(axis=2).argmax(axis=1) * 8000 / 128
    np.testing.assert_allclose(peaks, 300 + 50 * np.arange(8), atol=63)


def test_a_broken_file_loses_only_its_clip_and_is_read_after_its_repair(tmp_path, small_config, sink):
    dataset = media_dataset(tmp_path / "m")
    path = tmp_path / "m" / "-clip3.mp4"
    whole = path.read_bytes()
    path.write_bytes(whole[:2000])
    with pytest.raises(UnfitError, match="1 of 8 clips cannot be read"):
        build_store(dataset, small_config, tmp_path / "s", sink, workers=1)
    (row,) = csv.DictReader((tmp_path / "s" / "skipped.csv").open())
    assert row["id"] == "-clip3" and "damaged, cut short" in row["reason"]
    path.write_bytes(whole)
    store = build_store(dataset, small_config, tmp_path / "s", sink, workers=1)
    assert len(store) == 8 and not (tmp_path / "s" / "skipped.csv").exists()


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
from helpers import pausing
from test_build import media_dataset
from mgap_cli.config import DataConfig
from mgap_cli.data.prepare.build import build_store
from mgap_cli.output import Output

if __name__ == "__main__":
    pausing.install()
    config = DataConfig(frames=2, frame_size=32, sample_rate=8000, seconds=0.5, n_fft=128, hop=64)
    folder = Path(sys.argv[3])
    build_store(media_dataset(folder / "m", 24), config, folder / "s", Output(), workers=1)
"""


def test_kill_9_then_the_same_line_is_byte_equal(tmp_path, small_config, sink):
    build_store(media_dataset(tmp_path / "m", 24), small_config, tmp_path / "whole", sink, workers=1)
    script = tmp_path / "prepare.py"
    script.write_text(KILLED)
    here = Path(__file__).resolve()
    line = [sys.executable, str(script), str(here.parents[2]), str(here.parent), str(tmp_path)]
    (tmp_path / "pauses").mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": str(here.parents[1]),
        "PAUSE_PREPARE": f"4:{tmp_path / 'pauses'}",
    }
    process = subprocess.Popen(line, env=environment)
    while not (tmp_path / "pauses" / "prepare").exists():
        assert process.poll() is None, "it ended before it had prepared four clips"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    journal = tmp_path / "s" / ".partial" / "journal.jsonl"
    assert journal.stat().st_size and not (tmp_path / "s" / "store.json").exists()
    store = build_store(media_dataset(tmp_path / "m", 24), small_config, tmp_path / "s", sink, workers=1)
    assert verify(store) and contents(tmp_path / "s") == contents(tmp_path / "whole")


def make_doomed_job():
    def job(task):
        if task == "hang":
            while True:
                pass
        if task == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        return task

    return job


def test_a_crash_or_a_hang_loses_one_task():
    tasks = enumerate(["a", "crash", "b", "hang", "c", "d"])
    ended = {row: (value, cause) for row, value, cause in run_watched(make_doomed_job, (), tasks, 2, 2)}
    assert [ended[i][0] for i in range(6)] == ["a", None, "b", None, "c", "d"]
    assert ended[1][1] == "decoder crashed (SIGSEGV)" and ended[3][1] == "decoder hung for more than 2 s"


def make_leaking_job():
    kept = []

    def job(task):
        kept.append(b"x" * 30_000_000)
        return os.getpid()

    return job


def test_a_worker_that_grows_is_replaced_and_no_task_is_lost_or_done_twice():
    ended = list(run_watched(make_leaking_job, (), enumerate(range(20)), 2, 10))
    assert sorted(row for row, _, _ in ended) == list(range(20)) and not any(cause for _, _, cause in ended)
    assert max(Counter(pid for _, pid, _ in ended).values()) <= 6


@pytest.mark.parametrize(
    "damage",
    ["schema", "json", "short frames", "no audio", "csv row", "label", "missing key"],
)
def test_a_damaged_store_is_refused(tmp_path, small_config, sink, damage):
    build_store(made_up(), small_config, tmp_path / "s", sink)
    file = tmp_path / "s" / "store.json"
    meta = json.loads(file.read_text())
    if damage == "schema":
        file.write_text(json.dumps({**meta, "schema": "mgap-store/0"}))
    elif damage == "json":
        file.write_text(file.read_text()[:-30])
    elif damage == "short frames":
        os.truncate(tmp_path / "s" / "frames.npy", 5000)
    elif damage == "no audio":
        (tmp_path / "s" / "audio.npy").unlink()
    elif damage == "csv row":
        table = tmp_path / "s" / "clips.csv"
        table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    elif damage == "label":
        file.write_text(json.dumps({**meta, "classes": ["a"]}))
    else:
        file.write_text(json.dumps({k: v for k, v in meta.items() if k != "protocol"}))
    with pytest.raises(UnfitError) as caught:
        open_store(tmp_path / "s")
    assert caught.value.exit_code == ExitCode.UNFIT and caught.value.hint


def test_a_path_that_is_not_a_store_is_refused(tmp_path):
    with pytest.raises(UnfitError, match="no such store"):
        open_store(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UnfitError, match="not a store, because it is not a folder"):
        open_store(tmp_path / "file")
    assert not is_store(tmp_path)


def test_changed_content_does_not_verify(tmp_path, small_config, sink):
    store = build_store(made_up(), small_config, tmp_path / "s", sink)
    with (tmp_path / "s" / "audio.npy").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    assert not verify(store)
