"""From clips to a finished store. Decoding is parallel and resumable; a store is complete or does not exist.

    STORE/.lock                     held while prepare runs; its text marks the folder as one of mgap
    STORE/.partial/plan.json        the clips and the protocol of this unfinished build
                   journal.jsonl    one line per clip that is done or skipped
                   frames.npy, audio.npy      one row per clip, skipped ones included
                   sealed.json      everything is ready: only the renames are left

A store is only written to a folder that is new, empty or already one of mgap, so that no other file is
replaced.

A clip's row depends only on the clip and the protocol, and its position is fixed from the start. The store is
therefore the same for any number of workers, and after any number of kills.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import importlib
import json
import shutil
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mgap_cli.config import DataConfig
from mgap_cli.cores import usable_cores
from mgap_cli.data.clips import MEDIA_COLUMNS, SPLITS, Clip, Dataset, Reader, Undecodable
from mgap_cli.data.media import decode
from mgap_cli.data.media.spectrograms import packages_of, require_packages, spectrogram, spectrogram_shape
from mgap_cli.data.prepare.arrays import write_array_store
from mgap_cli.data.prepare.row_file import RowFile
from mgap_cli.data.prepare.stop import leave_on_signal
from mgap_cli.data.prepare.store_document import store_document
from mgap_cli.data.prepare.workers import Job, Results, Task, run_watched
from mgap_cli.data.sources import flag
from mgap_cli.data.store import (
    ARRAYS,
    CONTENT,
    PARTS,
    SCHEMA,
    SCHEMA_FAMILY,
    SKIPPED_COLUMNS,
    Store,
    content_hashes,
    frame_shape,
    is_store,
    meta_defect,
    open_store,
    plain_protocol,
    read_meta,
    recorded_protocol,
    table_text,
)
from mgap_cli.errors import MgapError, UnfitError, UsageError
from mgap_cli.files import cannot_write, write_json, write_text
from mgap_cli.output import Output

SKIPPED_SHARE = 0.05  # with more unreadable clips, the store would differ too much from the data set
CLIP_SECONDS = 60.0  # a decoder that takes longer for one clip counts as hung
# The modules that reading clips needs.
PACKAGES = ("mgap_cli.data.prepare.build", "av", "scipy.fft", "scipy.io.wavfile", "soxr")
DISK_RESERVE = 1 << 20  # bytes, for the small files
_OTHER_FOLDER = "Choose another folder with -o."
LOCK_TEXT = "mgap-store\n"  # content of .lock: mgap made this folder, or found it empty


def build_store(
    dataset: Dataset,
    config: DataConfig,
    out: Path,
    sink: Output,
    *,
    workers: int | None = None,
    force: bool = False,
    allow_skips: bool = False,
    clip_seconds: float = CLIP_SECONDS,
) -> Store:
    """Make the store of `dataset` in the folder `out`, or continue it, and return it open.

    A finished store of the same clips and protocol is returned at once; a different store is refused unless
    `force` is set. `workers`: number of processes that decode, all cores by default. `clip_seconds`: time
    limit for one clip.

    Raises UsageError if `out` has files that are not mgap's, or if the store would replace an input;
    UnfitError if more than 5 % of the clips cannot be read (unless `allow_skips`) or another store is in
    `out`; MgapError if another prepare runs there, if the disk is too small, or after SIGTERM or SIGUSR1
    (exit 75).
    """
    _require_own_folder(out, dataset)
    with leave_on_signal(out), _locked(out):
        build = _Build(dataset, config, out, sink)
        if (sealed := build.read_sealed()) is not None:
            build.commit(sealed)
        if is_store(out) and not force:
            _require_same(out, dataset, config)
            shutil.rmtree(build.staging, ignore_errors=True)
            sink.log(f"{out}: the store is finished already and is not changed.")
            return open_store(out)
        if dataset.arrays:
            write_array_store(dataset, config, out, build.staging)
            sink.log(f"{out}: {len(dataset.clips)} samples of {', '.join(dataset.arrays)}.")
        else:
            require_packages(config)
            build.run(workers or usable_cores(), allow_skips, clip_seconds)
    return open_store(out)


@dataclass
class _Build:
    dataset: Dataset
    config: DataConfig
    out: Path
    sink: Output
    seconds: dict[int, float] = field(default_factory=dict)  # row: duration of a clip that is done
    skips: dict[int, str] = field(default_factory=dict)  # row: reason

    @property
    def staging(self) -> Path:
        return self.out / ".partial"

    @property
    def sealed(self) -> Path:
        return self.staging / "sealed.json"

    @cached_property
    def digest(self) -> str:
        return self.dataset.digest()

    @cached_property
    def frames(self) -> RowFile:
        return RowFile(self.staging / ARRAYS[0], len(self.dataset.clips), frame_shape(self.config), "|u1")

    @cached_property
    def audio(self) -> RowFile:
        shape = spectrogram_shape(self.config)
        return RowFile(self.staging / ARRAYS[1], len(self.dataset.clips), shape, "<f2")

    def run(self, workers: int, allow_skips: bool, clip_seconds: float) -> None:
        obstacles = {} if self.dataset.reader else self._obstacles()
        self.skips = dict(obstacles)
        self._judge_skips(allow_skips)  # check before hours of decoding
        self._resume_or_start(obstacles)
        self.skips.update(obstacles)
        self._decode(workers, clip_seconds)
        self._judge_skips(allow_skips)
        self.commit(self._seal())
        self._summary()

    def _obstacles(self) -> dict[int, str]:
        reasons = ((row, decode.obstacle(clip)) for row, clip in enumerate(self.dataset.clips))
        return {row: reason for row, reason in reasons if reason}

    def _judge_skips(self, allow_skips: bool) -> None:
        total, skipped = len(self.dataset.clips), len(self.skips)
        if not skipped or ((skipped <= SKIPPED_SHARE * total or allow_skips) and skipped < total):
            return
        pointers = Counter(self.skips.values())[decode.LFS_POINTER]
        where = self.dataset.root or "the data set"
        pull = f"Fetch the media: cd {where} && git lfs pull"
        if pointers == total:
            raise UnfitError(f"{where}: all {total} clips are Git LFS pointers, not media.", pull)
        listed = ""
        if not is_store(self.out):
            self._write_skipped(self.out / "skipped.csv")
            listed = f" They are listed in {self.out / 'skipped.csv'}."
        share = f"{skipped} of {total} clips cannot be read ({_tally(self.skips.values())})"
        hint = "Repair them, or continue without them: --allow-skips" if skipped < total else ""
        raise UnfitError(f"{self.dataset.name}: {share}.{listed}", pull if 2 * pointers > skipped else hint)

    def _resume_or_start(self, obstacles: dict[int, str]) -> None:
        plan = {"schema": SCHEMA, "clips": self.digest, "protocol": recorded_protocol(self.config)}
        plan_file, journal = self.staging / "plan.json", self.staging / "journal.jsonl"
        if self.staging.exists():
            earlier_plan = _read_json(plan_file)
            if earlier_plan == plan and self.frames.is_whole() and self.audio.is_whole():
                self._replay(journal)
                done = len(self.seconds) + len(self.skips)
                self.sink.log(f"{self.out}: continues an unfinished store with {done} finished clips.")
                return
            if earlier_plan not in (None, plan):
                self.sink.log(
                    f"{self.out}: starts again, as the unfinished store has other clips or settings."
                )
            shutil.rmtree(self.staging)
        self.seconds, self.skips = {}, {}
        copies = 2 if obstacles else 1  # removing the rows of skipped clips needs a second copy
        needed = copies * (self.frames.total_bytes + self.audio.total_bytes)
        try:
            self._require_room(needed)
            self.staging.mkdir()
            self.frames.create()
            self.audio.create()
            journal.touch()
        except OSError as error:
            shutil.rmtree(self.staging, ignore_errors=True)
            raise self._cannot_write(error, needed) from error
        write_json(plan_file, plan)

    def _require_room(self, needed: int) -> None:
        if needed + DISK_RESERVE > shutil.disk_usage(self.out).free:
            raise self._too_small(needed)

    def _too_small(self, needed: int) -> MgapError:
        free, wanted = shutil.disk_usage(self.out).free, needed + DISK_RESERVE
        return MgapError(
            f"{self.out}: the disk is too small: {_size(wanted)} needed, {_size(free)} available.",
            "Free space, choose another folder with -o, or store less: --set data.frame_size=128",
        )

    def _cannot_write(self, error: OSError, needed: int = 0) -> MgapError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return self._too_small(needed)
        hint = "Choose another folder with -o, or make this one writable and run the same command again."
        return cannot_write(self.out, error, hint)

    def _replay(self, journal: Path) -> None:
        """Keep each complete line of the journal whose files are unchanged and whose row is the same."""
        self.seconds, self.skips = {}, {}
        lines = journal.read_bytes().splitlines() if journal.exists() else []
        believed = []
        for line in lines:
            entry = _journal_entry(line, len(self.dataset.clips))
            if entry is None or entry["files"] != _signature(self.dataset.clips[entry["row"]]):
                continue
            row = entry["row"]
            if "skip" in entry:
                self.skips[row] = entry["skip"]
            elif entry["crc"] == _checksum(self.frames.read(row), self.audio.read(row)):
                self.seconds[row] = entry["seconds"]
            else:
                continue
            believed.append(json.dumps(entry))
        write_text(journal, "".join(line + "\n" for line in believed))

    def _decode(self, workers: int, clip_seconds: float) -> None:
        clips, packages = self.dataset.clips, (*PACKAGES, *packages_of(self.config))
        rows = [r for r in range(len(clips)) if r not in self.seconds and r not in self.skips]
        tasks = ((row, (row, clips[row])) for row in rows)
        arguments = (self.config, self.frames, self.audio)
        results: Results
        if self.dataset.reader:  # these clips cannot crash a decoder, and are faster than a new process
            results = _inline(make_job(*arguments, self.dataset.reader), tasks)
        else:
            count = min(workers, len(rows))
            results = run_watched(
                make_worker_job, (*arguments, packages), tasks, count, clip_seconds, packages
            )
        try:
            self._gather(results, len(clips) - len(rows))
        except OSError as error:
            raise self._cannot_write(error) from error
        except RuntimeError as error:
            raise MgapError(
                f"{self.out}: prepare stopped ({error}).", "Run the same command again: it continues."
            ) from error

    def _gather(self, results: Results, finished: int) -> None:
        """Record the result of each clip at once; clips in the journal are not read again."""
        clips = self.dataset.clips
        with (
            (self.staging / "journal.jsonl").open("a", encoding="utf-8") as journal,
            self.sink.progress(f"prepare {self.dataset.name}", len(clips), "clips", finished) as tick,
            contextlib.closing(results) as stream,
        ):
            for done, (row, result, death) in enumerate(stream, finished + 1):
                outcome: dict[str, Any] = {"skip": death} if death else result
                if "skip" in outcome:
                    self.skips[row] = outcome["skip"]
                else:
                    self.seconds[row] = outcome["seconds"]
                entry = {"row": row, "files": _signature(clips[row]), **outcome}
                journal.write(json.dumps(entry) + "\n")
                journal.flush()
                tick(done, f"{len(self.skips)} skipped" if self.skips else "")

    def _seal(self) -> dict[str, Any]:
        """Write the final files beside the partial ones, then write sealed.json and return its content."""
        clips = self.dataset.clips
        kept = [row for row in range(len(clips)) if row not in self.skips]
        moves = {array: array for array in ARRAYS}
        final = [self.frames, self.audio]
        needed = sum(rows.row_bytes * len(kept) for rows in final) if self.skips else 0
        try:
            if self.skips:
                self._require_room(needed)
                for i, rows in enumerate((self.frames, self.audio)):
                    moves[ARRAYS[i]] = f"kept-{ARRAYS[i]}"
                    path = self.staging / moves[ARRAYS[i]]
                    final[i] = dataclasses.replace(rows, path=path, n=len(kept))
                    rows.copy_rows(kept, final[i])
            for array in final:
                array.sync()
        except OSError as error:
            raise self._cannot_write(error, needed) from error
        table = [self.dataset.row(clips[row], self.seconds[row]) for row in kept]
        extra = dict.fromkeys(name for clip in clips for name in clip.extra)
        write_text(self.staging / "clips.csv", table_text(table, dict.fromkeys((*MEDIA_COLUMNS, *extra))))
        moves["clips.csv"] = "clips.csv"
        if self.skips:
            self._write_skipped(self.staging / "skipped.csv")
            moves["skipped.csv"] = "skipped.csv"
        contents = content_hashes({name: self.staging / moves[name] for name in CONTENT})
        clips = [self.dataset.clips[row] for row in kept]
        document = store_document(
            self.dataset, self.config, self.digest, clips, contents, self._skipped_rows()
        )
        sealed = {"moves": moves, "store": document}
        write_json(self.sealed, sealed)
        return sealed

    def read_sealed(self) -> dict[str, Any] | None:
        """Return the content of sealed.json; None if it is missing or this version cannot use it."""
        sealed = _read_json(self.sealed)
        if not isinstance(sealed, dict):
            return None
        moves, store = sealed.get("moves"), sealed.get("store")
        if not isinstance(moves, dict) or not isinstance(store, dict) or store.get("schema") != SCHEMA:
            return None
        origins = {*PARTS, *(f"kept-{array}" for array in ARRAYS)}
        if not moves.keys() <= {*PARTS} or not all(origin in origins for origin in moves.values()):
            return None
        return None if meta_defect(store) else sealed

    def commit(self, sealed: dict[str, Any]) -> None:
        """Rename the sealed files into place. After a kill, a second call gives the same result."""
        (self.out / "store.json").unlink(missing_ok=True)
        for name, origin in sealed["moves"].items():
            if (self.staging / origin).exists():
                (self.staging / origin).replace(self.out / name)
        if "skipped.csv" not in sealed["moves"]:
            (self.out / "skipped.csv").unlink(missing_ok=True)
        write_json(self.out / "store.json", sealed["store"])
        shutil.rmtree(self.staging)

    def _skipped_rows(self) -> list[dict[str, str]]:
        clips = self.dataset.clips
        return [
            {"id": clips[r].id, "split": clips[r].split, "label": clips[r].label, "reason": self.skips[r]}
            for r in sorted(self.skips)
        ]

    def _write_skipped(self, path: Path) -> None:
        write_text(path, table_text(self._skipped_rows(), SKIPPED_COLUMNS))

    def _summary(self) -> None:
        counts = Counter(self.dataset.clips[row].split for row in self.seconds)
        splits = ", ".join(f"{split} {counts[split]}" for split in SPLITS if counts[split])
        self.sink.log(f"{self.dataset.name}: {len(self.seconds)} clips ({splits}).")
        if self.skips:
            self.sink.warn(f"{len(self.skips)} clips skipped: {_tally(self.skips.values())}.")
        for note in self.dataset.notes:
            self.sink.warn(note)


def make_job(config: DataConfig, frames: RowFile, audio: RowFile, reader: Reader | None = None) -> Job:
    """Return the function that a worker runs on each (row, clip): read the clip and write its row."""
    read = reader or decode.media_reader()
    write_frames, write_audio = frames.writer(), audio.writer()

    def job(task: tuple[int, Clip]) -> dict[str, Any]:
        row, clip = task
        try:
            pictures, wave = read(clip, config)
            if pictures.shape != frames.shape or pictures.dtype != np.uint8:
                raise Undecodable(f"frames have the type and shape {pictures.dtype} {pictures.shape}")
            sound = spectrogram(wave, config)
        except Undecodable as error:
            return {"skip": str(error)}
        except Exception as error:  # whatever a broken file raises, only that clip is lost
            return {"skip": f"cannot be decoded: {type(error).__name__}: {str(error)[:200]}"}
        parts = pictures.tobytes(), sound.tobytes()
        write_frames(row, parts[0])
        write_audio(row, parts[1])
        return {"seconds": round(wave.size / config.sample_rate, 3), "crc": _checksum(*parts)}

    return job


def make_worker_job(config: DataConfig, frames: RowFile, audio: RowFile, packages: Sequence[str]) -> Job:
    """Return the function of `make_job` in a new process, after importing everything that it may need."""
    for package in packages:  # before the time limit of the first clip starts
        importlib.import_module(package)
    return make_job(config, frames, audio)


def _inline(job: Job, tasks: Iterable[Task]) -> Results:
    for row, task in tasks:
        yield row, job(task), ""


def _require_same(out: Path, dataset: Dataset, config: DataConfig) -> None:
    meta = read_meta(out)
    protocol = {**plain_protocol(DataConfig()), **meta.get("protocol", {})}
    wanted = plain_protocol(config)
    differing = [
        f"data.{key} {protocol.get(key)!r} -> {value!r}"
        for key, value in wanted.items()
        if protocol.get(key) != value
    ]
    if meta.get("name") != dataset.name:
        differing.insert(0, f"data set {meta.get('name')} -> {dataset.name}")
    options = meta.get("source", {}).get("options", {})
    for key in sorted({*options, *dataset.options}):
        if options.get(key) != dataset.options.get(key):
            differing.append(f"{flag(key)} {options.get(key)!r} -> {dataset.options.get(key)!r}")
    if meta.get("clips") != dataset.digest() and not differing:
        differing.append("the list of clips")
    if differing:
        raise UnfitError(
            f"{out}: has a store that was made differently ({'; '.join(differing)}).",
            "Choose another folder with -o, or replace it with --force.",
        )


def _require_own_folder(out: Path, dataset: Dataset) -> None:
    """Refuse a folder in which the store would replace files of other programs, or its own input."""
    try:
        if not out.exists():
            return
        if not out.is_dir():
            raise UsageError(f"{out}: is not a folder.", "Choose another folder for the store with -o.")
        entries = {path.name for path in out.iterdir()}
        for path in dataset.inputs:
            if any((out / part).exists() and (out / part).samefile(path) for part in (*PARTS, ".lock")):
                raise UsageError(
                    f"{path}: the store in {out} would replace this input.",
                    "Choose another folder for the store with -o.",
                )
        lock = out / ".lock"
        marked = lock.is_file() and lock.read_bytes()[: len(LOCK_TEXT)] == LOCK_TEXT.encode()
        only_lock = entries <= {".lock"} and (not entries or (lock.is_file() and not lock.stat().st_size))
    except OSError as error:
        raise cannot_write(out, error, _OTHER_FOLDER) from error
    if marked or only_lock:
        return
    meta = _read_json(out / "store.json")
    schema = meta.get("schema") if isinstance(meta, dict) else None
    if not (isinstance(schema, str) and schema.startswith(SCHEMA_FAMILY)):
        foreign = sorted(entries)
        raise UsageError(
            f"{out}: has files that are not a store of mgap ({', '.join(foreign[:3])}"
            f"{', ...' if len(foreign) > 3 else ''}).",
            "Choose a folder that is new or empty with -o.",
        )


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold the folder's lock and mark the folder as one of mgap; MgapError if another prepare has it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / ".lock").open("ab", buffering=0)
    except OSError as error:
        raise cannot_write(out, error, _OTHER_FOLDER) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MgapError(f"{out}: another prepare is running in this folder.", "Wait for it.") from error
        with contextlib.suppress(OSError):  # on a full disk the build fails next
            file.truncate(0)
            file.write(LOCK_TEXT.encode())
        yield


def _signature(clip: Clip) -> list[list[int]]:
    """Return size and modification time of the clip's files: they change when a file is repaired."""
    sizes_and_times = []
    for path in clip.files:
        with contextlib.suppress(OSError):
            status = path.stat()
            sizes_and_times.append([status.st_size, status.st_mtime_ns])
    return sizes_and_times


def _checksum(frames: bytes, audio: bytes) -> int:
    return zlib.crc32(audio, zlib.crc32(frames))


def _read_json(path: Path) -> Any:
    """Return a JSON document; None if it is damaged or there is no such regular file."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError, MemoryError):
        return None


def _journal_entry(line: bytes, clips: int) -> dict[str, Any] | None:
    """Return a line of the journal; None if it is incomplete, as after a kill, or from another build."""
    try:
        entry = json.loads(line)
        row, skip = entry["row"], entry.get("skip")
        done = skip is None and isinstance(entry["seconds"], float) and isinstance(entry["crc"], int)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    valid = type(row) is int and 0 <= row < clips and "files" in entry and (done or isinstance(skip, str))
    return entry if valid else None


def _tally(reasons: Iterable[str]) -> str:
    return ", ".join(f"{count} x {reason}" for reason, count in Counter(reasons).most_common(5))


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
