"""--report-to: the content of a tracker after a run, and after a run that was killed and resumed."""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.program import HANG, ROOT, TINY, assert_same_checkpoint, metrics, mgap, sets, start

from mgap_cli.config import Config
from mgap_cli.errors import UsageError
from mgap_cli.output import Output
from mgap_cli.training import trackers
from mgap_cli.training.trackers import Logger, flat, identity, open_logger, package

EPOCHS = 6


def warmup(store: Path, run: Path, name: str, *more: object) -> list[object]:
    return ["warmup", store, "-o", run, *sets(*TINY), "--epochs", EPOCHS, "--report-to", name, *more]


def recorded(run: Path, stage: str = "warmup") -> dict[int, dict[str, float]]:
    """The metrics of a stage in metrics.jsonl, {epoch: metrics}."""
    return {entry["epoch"]: flat(entry) for entry in metrics(run, stage)}


def same(tracked: dict[int, dict[str, float]], run: Path) -> None:
    """Assert that a tracker has the content of metrics.jsonl, except the time of a repeated epoch."""
    expected = recorded(run)
    assert list(tracked) == list(expected) == list(range(1, EPOCHS + 1))
    for epoch, figures in expected.items():
        for name, value in figures.items():
            if name not in (
                "seconds",
                "samples_per_second",
            ):  # not in the history, from which gaps are filled
                assert tracked[epoch][name] == pytest.approx(value, rel=1e-6), (epoch, name)


# --- TensorBoard


def events(run: Path, stage: str = "warmup") -> dict[int, dict[str, float]]:
    """Read the event files back as TensorBoard does; each step of a curve may be there once."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    reader = accumulator.EventAccumulator(str(run / "tensorboard" / stage), {"scalars": 0})
    reader.Reload()
    curves: dict[int, dict[str, float]] = {}
    for tag in reader.Tags()["scalars"]:
        steps = [event.step for event in reader.Scalars(tag)]
        assert steps == sorted(set(steps)), (tag, steps)
        for event in reader.Scalars(tag):
            curves.setdefault(event.step, {})[tag] = event.value
    return curves


def test_tensorboard_has_the_metrics(store, tmp_path):
    pytest.importorskip("tensorboard")
    done = mgap(*warmup(store, tmp_path, "tensorboard"))
    assert done.code == 0 and done.out == f"{tmp_path / 'warmup.pt'}\n", done.err
    assert "reporting to tensorboard" in done.err
    curves = events(tmp_path)
    same(curves, tmp_path)
    assert {"lr", "train/loss", "train/fused", "val/audio", "val/visual"} <= curves[1].keys()
    # adapt uses the warm-up's settings and has its own curves.
    assert mgap("adapt", tmp_path / "warmup.pt").code == 0
    assert list(events(tmp_path, "adapt")) == [1, 2, 3]
    same(events(tmp_path), tmp_path)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_tensorboard_after_a_stop(store, tmp_path, number):
    pytest.importorskip("tensorboard")
    running = start(*warmup(store, tmp_path, "tensorboard"), pause=(3, 2))
    running.until_paused()
    running.send(number)
    assert running.wait().code == (75 if number == signal.SIGTERM else -number)
    assert mgap(*warmup(store, tmp_path, "tensorboard")).code == 0
    same(events(tmp_path), tmp_path)


def test_tensorboard_removes_an_epoch_that_was_written_but_not_saved(store, tmp_path):
    """The state after a kill between the two writes, which a test cannot time."""
    pytest.importorskip("tensorboard")
    sink, entry = Output(quiet=True), {"stage": "warmup", "lr": 0.5}
    first = open_logger("tensorboard", tmp_path, "warmup", Config(), [], sink)
    for epoch in (1, 2, 3):
        first.epoch(epoch, {**entry, "epoch": epoch})
    first.close()
    again = open_logger("tensorboard", tmp_path, "warmup", Config(), [{"epoch": 1}, {"epoch": 2}], sink)
    again.epoch(3, {**entry, "epoch": 3, "lr": 0.25})
    again.close()
    assert {step: figures["lr"] for step, figures in events(tmp_path).items()} == {1: 0.5, 2: 0.5, 3: 0.25}


# --- Weights & Biases, offline


def history(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read the history out of a .wandb file: LevelDB's log format around protocol buffers."""
    from wandb.proto import wandb_internal_pb2

    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        room = 32768 - at % 32768
        if room < 7:
            at += room
            continue
        _, length, masked = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if masked in (1, 4):  # a whole record, or the end of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            whole = b""
            if record.WhichOneof("record_type") == "history":
                items = {"/".join(i.nested_key) or i.key: i.value_json for i in record.history.item}
                yield record.history.step.num, {name: json.loads(value) for name, value in items.items()}


def test_wandb_offline_has_the_metrics_after_a_stop(store, tmp_path):
    pytest.importorskip("wandb")
    offline = {"WANDB_MODE": "offline"}
    running = start(*warmup(store, tmp_path, "wandb"), env=offline, pause=(3, 2))
    running.until_paused()
    running.send(signal.SIGTERM)
    assert running.wait().code == 75
    done = mgap(*warmup(store, tmp_path, "wandb"), env=offline)
    assert done.code == 0 and done.out == f"{tmp_path / 'warmup.pt'}\n", done.err
    files = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert {file.name for file in files} == {f"run-{identity(tmp_path, 'warmup')}.wandb"}
    steps = [step for file in files for step, _ in history(file)]
    assert steps == list(range(1, EPOCHS + 1))
    same({step: figures for file in files for step, figures in history(file)}, tmp_path)


def test_wandb_without_an_account_is_one_message(store, tmp_path):
    pytest.importorskip("wandb")
    nobody = {
        "HOME": str(tmp_path),
        "WANDB_MODE": "online",
        "WANDB_API_KEY": "",
        "NETRC": str(tmp_path / "none"),
    }
    done = mgap(*warmup(store, tmp_path / "run", "wandb"), env=nobody)
    done.fails(1, "--report-to wandb: cannot start", "WANDB_MODE=offline")


# --- Trackio


def test_trackio_has_the_metrics_after_a_stop(store, tmp_path):
    pytest.importorskip("trackio")
    env = {"TRACKIO_DIR": str(tmp_path / "trackio")}
    run = tmp_path / "run"
    running = start(*warmup(store, run, "trackio"), env=env, pause=(3, 2))
    running.until_paused()
    running.send(signal.SIGKILL)
    running.wait()
    done = mgap(*warmup(store, run, "trackio"), env=env)
    assert done.code == 0 and done.out == f"{run / 'warmup.pt'}\n", done.err
    read = "import json, sys; from trackio.sqlite_storage import SQLiteStorage as S; "
    read += "print(json.dumps(S.get_logs('mgap', sys.argv[1]), default=str))"
    words = [sys.executable, "-c", read, identity(run, "warmup")]
    printed = subprocess.run(words, env={**_environment(), **env}, capture_output=True, text=True, check=True)
    rows = json.loads(printed.stdout)
    assert [row["step"] for row in rows] == list(range(1, EPOCHS + 1))
    same({row["step"]: row for row in rows}, run)


def _environment() -> dict[str, str]:
    import os

    return dict(os.environ)


# --- all of them


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_tracker_that_is_not_installed_is_named_with_its_extra(monkeypatch, name):
    module = trackers._MODULES[name]
    for part in [m for m in sys.modules if m == module or m.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, part)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=f"--report-to {name}: it is not installed") as caught:
        package(name)
    assert caught.value.hint == f"Run: pip install 'mgap[{name}]'"
    extras = (ROOT / "pyproject.toml").read_text()
    assert f'\n{name} = ["{name}>=' in extras


def test_no_tracker_is_imported_unless_asked_for(store, tmp_path):
    program = (
        "import sys\n"
        "from mgap_cli.__main__ import main\n"
        "try:\n    main()\n"
        "finally:\n"
        "    print(sorted({'tensorboard', 'wandb', 'trackio'} & set(sys.modules)), file=sys.stderr)\n"
    )
    words = ["warmup", str(store), "-o", str(tmp_path), *sets(*TINY), "--epochs", "1", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True, timeout=HANG
    )
    assert done.returncode == 0 and done.stderr.strip() == "[]", done.stderr
    assert (tmp_path / "metrics.jsonl").exists()


def test_a_tracker_that_fails_is_left_out_and_training_continues(store, tmp_path, capsys):
    class Broken(Logger):
        def write(self, number, figures):
            raise ConnectionError("no\nroute")

    broken = Broken(tmp_path, "warmup", Config(), [], Output())
    for epoch in (1, 2):
        broken.epoch(epoch, {"epoch": epoch})
    broken.close()
    said = capsys.readouterr().err
    assert said == "warning: --report-to: Broken failed (no route); metrics.jsonl has all the metrics.\n"


def test_a_tracker_changes_no_weight(store, tmp_path):
    pytest.importorskip("tensorboard")
    for name in ("none", "tensorboard"):
        assert mgap(*warmup(store, tmp_path / name, name)).code == 0
    assert_same_checkpoint(tmp_path / "none/warmup.pt", tmp_path / "tensorboard/warmup.pt", ".model")


def test_figures_are_named_by_split():
    entry = {"stage": "adapt", "epoch": 3, "lr": 0.1, "val": {"fused": 0.5}, "train": {"loss": 2}}
    assert flat(entry) == {"lr": 0.1, "val/fused": 0.5, "train/loss": 2.0}


def test_a_run_is_known_by_its_folder_and_stage(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert identity(Path("run"), "warmup") == identity(tmp_path / "run", "warmup")
    names = {identity(tmp_path / f, s) for f in ("run", "x/run") for s in ("warmup", "adapt")}
    assert len(names) == 4
