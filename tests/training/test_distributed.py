"""Two real processes under torchrun with gloo give the results of one process, and end together."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.launched import PATH, Launched, script
from helpers.methods import example
from helpers.program import HANG, TINY, assert_same_checkpoint, metrics, sets, status, tensors
from hypothesis import given, settings
from hypothesis import strategies as st

from mgap_cli.config import AugmentConfig
from mgap_cli.data.loading.loader import Loader
from mgap_cli.data.store import open_store
from mgap_cli.errors import UsageError
from mgap_cli.output import Output
from mgap_cli.processes import SMALLEST, shares
from mgap_cli.runs.lock import run_lock
from mgap_cli.training.distributed import World, share_batch_norm

METHODS = {
    "heads": ["--method", "joint-heads"],
    "ogm": ["--method", "ogm-ge"],
    "audio": ["--method", "unimodal", *sets("unimodal.modality=audio")],
}
SGD = [*sets(*TINY), "--optimizer", "sgd"]  # AdamW divides by small gradients, and their rounding shows

# Records which process begins to write which file, then runs one command of mgap.
RECORDED = """
import os, sys
from mgap_cli import files
from mgap_cli.__main__ import main

plain = files._new_temporary

def recorded(target):
    with open(os.environ["WRITERS"], "a") as log:
        log.write(f"{os.environ['RANK']} {target.name}\\n")
    return plain(target)

files._new_temporary = recorded
sys.argv = ["mgap", *sys.argv[1:]]
main()
"""


def line(store: Path, run: Path, *more: object) -> list[object]:
    return ["warmup", store, "-o", run, *sets(*TINY), "--epochs", 12, *more]


def lines(store: Path, folder: Path, teacher: Path) -> list[list[object]]:
    one = ["--epochs", 1, "--select", "last"]
    warm = folder / "heads/warmup.pt"
    return [
        *(["warmup", store, "-o", folder / name, *SGD, *one, *method] for name, method in METHODS.items()),
        ["analyze-gap", warm, *sets("runtime.eval_batch_size=7")],
        ["adapt", warm, "-o", folder / "adapt", *one],
        ["adapt", warm, "-o", folder / "kl", *one, "--shift", "kl", "--beta", 3, "--alpha", 1],
        # Methods of a user: one trains its own parameters, one runs a second network.
        ["train", store, "-o", folder / "learned", *SGD, *one, "--method", example("learned_weights")],
        [
            *("train", store, "-o", folder / "taught", *SGD, *one, "--method", example("frozen_teacher")),
            *sets(f"frozen-teacher.teacher={teacher}"),
        ],
        ["evaluate", warm, folder / "adapt/adapt.pt", "--json"],
    ]


@pytest.fixture(scope="module")
def alone(store, finished, tmp_path_factory) -> Path:
    """The results of one process."""
    folder = tmp_path_factory.mktemp("alone")
    done = subprocess.run(
        [sys.executable, *script(folder, lines(store, folder, finished / "warmup.pt"))],
        env={**os.environ, "PYTHONPATH": PATH, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def launched(store, finished, tmp_path_factory) -> Launched:
    """Two processes that run the same commands and some more; the last command is refused."""
    folder = tmp_path_factory.mktemp("together")
    more = [line(store, folder / "whole"), line(store, folder / "refused", "--batch-size", 15)]
    program, plan = script(folder, [*lines(store, folder, finished / "warmup.pt"), *more])
    launched = Launched(folder, plan, program=(program,))
    assert launched.wait() != 0
    return launched


@pytest.fixture(scope="module")
def together(launched) -> Path:
    """The results of two processes."""
    assert (launched.folder / "whole/warmup.pt").exists(), launched.err.read_text()
    return Path(launched.folder)


FILES = ["heads/warmup.pt", "ogm/warmup.pt", "audio/warmup.pt", "adapt/adapt.pt", "kl/adapt.pt"]
FILES += ["learned/train.pt", "taught/train.pt"]


@pytest.mark.parametrize("file", FILES)
def test_parameters_agree_with_one_process(store, alone, together, file):
    start = tensors(alone / "heads/warmup.pt")
    one, two = (tensors(folder / file) for folder in (alone, together))
    compared = [key for key in one if key.startswith(".model.")]
    assert compared == [key for key in two if key.startswith(".model.")]
    for key in compared:
        torch.testing.assert_close(two[key], one[key], rtol=2e-4, atol=2e-5, equal_nan=True, msg=key)
    if "adapt" in file:  # and training has changed them
        first = ".model.network.encoders.audio.conv1.weight"
        assert not torch.equal(one[first], start[first])


def test_a_methods_own_parameters_are_trained_the_same_in_every_process(together):
    """Each process has the gradient of the whole batch for them: summed, it would be twice as large."""
    model = tensors(together / "learned/train.pt")
    learned = [v for k, v in model.items() if k.startswith(".model.method.log_variance.")]
    assert len(learned) == 3 and all(bool(v != 0) for v in learned)


def test_a_teacher_is_the_same_in_every_process(finished, together):
    taught, before = tensors(together / "taught/train.pt"), tensors(finished / "warmup.pt")
    teacher = {k: v for k, v in taught.items() if k.startswith(".model.method.teacher.")}
    assert len(teacher) == sum(k.startswith(".model.network.") for k in before)
    for key, value in teacher.items():
        assert torch.equal(value, before[key.replace(".method.teacher.", ".network.")]), key


def test_metrics_are_those_of_one_process(store, alone, together):
    """Rounding changes a loss by about 1e-6, and may give one sample another class."""
    samples = {split: len(open_store(store).indices(split)) for split in ("train", "val")}
    for name, stage in (("heads", "warmup"), ("ogm", "warmup"), ("audio", "warmup"), ("adapt", "adapt")):
        (one,), (two,) = (metrics(folder / name, stage) for folder in (alone, together))
        for split, n in samples.items():
            assert two[split].keys() == one[split].keys()
            for key, value in one[split].items():
                tolerance = 1e-4 * value if key == "loss" else 1.01 / n
                assert two[split][key] == pytest.approx(value, abs=tolerance), (name, split, key)


def test_gaps_agree_in_order_and_in_value(store, alone, together):
    tables = []
    for folder in (alone, together):
        with (folder / "heads/gap-warmup.csv").open() as file:
            tables.append(list(csv.DictReader(file)))
    one, two = tables
    opened = open_store(store)
    train = {opened.ids[i] for i in opened.indices("train")}
    assert len(train) % 2 == 1, "an odd number shows padding"
    assert len(two) == len(train) and {row["id"] for row in two} == train
    by_id = {row["id"]: row for row in one}
    for row in two:
        for key in ("p_audio", "p_visual", "gap", "posterior"):
            assert float(row[key]) == pytest.approx(float(by_id[row["id"]][key]), abs=1e-4)
        assert row["label"] == by_id[row["id"]]["label"]
    # The mixture that training used, and the scores behind it.
    states = [tensors(folder / "adapt/adapt.pt") for folder in (alone, together)]
    for key in (
        ".model.method.posterior",
        ".model.method.balanced_mean",
        ".model.method.balanced_sd",
    ):
        torch.testing.assert_close(states[1][key], states[0][key], rtol=1e-4, atol=1e-4, msg=key)


def test_only_one_process_speaks(together):
    text = (together / "torchrun.out").read_text()
    assert text.count("heads/warmup.pt\n") == 1 and text.count('"schema": "mgap.evaluate/') == 1
    assert (together / "torchrun.err").read_text().count("warmup epoch 1/1;") == len(METHODS)
    assert not list(together.rglob("*.tmp"))


def test_only_the_main_process_writes(store, tmp_path):
    program, writers, run = tmp_path / "recorded.py", tmp_path / "writers", tmp_path / "run"
    program.write_text(RECORDED)
    small = [*sets(*TINY, "warmup.epochs=1", "train.epochs=2"), "--no-baseline"]
    launched = Launched(
        tmp_path, "run", store, "-o", run, *small, program=(program,), env={"WRITERS": str(writers)}
    )
    assert launched.wait() == 0, launched.err.read_text()
    written = [entry.split() for entry in writers.read_text().splitlines()]
    assert {rank for rank, _ in written} == {"0"}
    every = {"config.yaml", "env.json", "status.json", "metrics.jsonl", "gap-warmup.csv", "gap-warmup.json"}
    every |= {"gap-warmup.png", "warmup-last.pt", "adapt-best.pt", "evaluate.json", "report.html"}
    assert every <= {name for _, name in written}
    assert status(run)["state"] == "done"


def test_a_run_folder_that_another_process_writes_in(store, tmp_path):
    """The main process holds the lock for all; if it is refused, all end and one of them says why."""
    run = tmp_path / "run"
    with run_lock(run, Output()):
        refused = Launched(tmp_path / "refused", *line(store, run))
        assert refused.wait() != 0
        (message,) = refused.messages()
        assert f"process {os.getpid()} on" in message and not (run / "config.yaml").exists()


def test_preempted_by_usr1_and_taken_up_again(store, together, tmp_path):
    run, whole = tmp_path / "run", together / "whole"
    program, plan = script(tmp_path, [line(store, run)])
    pauses = tmp_path / "pauses"
    pauses.mkdir()
    pause = {"PAUSE_AT": f"2:3:{pauses}"}
    first = Launched(tmp_path / "first", plan, program=(program,), env=pause)
    first.until(lambda: any(pauses.iterdir()))
    first.process.send_signal(signal.SIGUSR1)
    assert first.wait() != 0
    (message,) = first.messages()
    assert "stopped by SIGUSR1 at epoch 3, step 4" in message
    assert status(run)["state"] == "preempted"
    second = Launched(tmp_path / "second", plan, program=(program,))
    assert second.wait() == 0, second.err.read_text()
    assert "continues from epoch" in second.err.read_text() and status(run)["state"] == "done"
    for name in ("warmup.pt", "warmup-last.pt"):
        assert_same_checkpoint(whole / name, run / name)


def test_a_batch_that_does_not_divide_is_refused_once(launched, together):
    (message,) = launched.messages()
    assert "--batch-size 15 does not divide among 2 processes" in message
    assert "try 16." in launched.err.read_text() and not (together / "refused").exists()


@pytest.mark.parametrize("which", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_killed_process_ends_all_at_once(store, tmp_path, which):
    run = tmp_path / "run"
    launched = Launched(tmp_path, *line(store, run, "--epochs", 1000))
    launched.until(lambda: len(metrics(run)) >= 1)
    workers = launched.workers()
    os.kill(workers[which], signal.SIGKILL)
    assert launched.wait() != 0  # gloo itself would give up after half an hour
    (message,) = launched.messages()
    assert "lost another process" in message
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def test_sync_bn_needs_gpus():
    module = torch.nn.Sequential(torch.nn.BatchNorm2d(2))
    with pytest.raises(UsageError, match="--sync-bn needs one GPU per process"):
        share_batch_norm(module, torch.device("cpu"), World(0, 2))
    share_batch_norm(module, torch.device("cpu"), World())
    assert type(module[0]) is torch.nn.BatchNorm2d, "one process has the whole batch anyway"


@settings(max_examples=200, deadline=None)
@given(total=st.integers(1, 300), ranks=st.integers(1, 16))
def test_shares_cover_every_row_once(total, ranks):
    cut = shares(total, ranks)
    assert len(cut) == ranks
    assert [i for s in cut for i in range(total)[s]] == list(range(total))
    sizes = [s.stop - s.start for s in cut if s.stop > s.start]
    assert max(sizes) - min(sizes) <= 1 and (min(sizes) >= SMALLEST or len(sizes) == 1)
    assert cut[0].stop > 0, "the main process always has some"


@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("audio_mask", [0.0, 0.3])
def test_shares_of_batches_are_the_batches(store, ranks, audio_mask):
    opened = open_store(store)
    indices = opened.indices("train")[:41]  # 12 + 12 + 12 + 5
    config = AugmentConfig(image_size=8, audio_mask=audio_mask)

    def loader(rank: int, of: int) -> Loader:
        return Loader(opened, indices, torch.device("cpu"), config, 12, rank, of)

    parts = [list(loader(rank, ranks).training(seed=3, epoch=1)) for rank in range(ranks)]
    for step, batch in enumerate(loader(0, 1).training(seed=3, epoch=1)):
        cut = shares(len(batch.labels), ranks)
        for rank, rows in enumerate(cut):
            part = parts[rank][step]
            assert torch.equal(part.index, batch.index) and torch.equal(part.labels, batch.labels)
            if rows.start == rows.stop:
                assert {len(values) for values in part.inputs.values()} == {SMALLEST}
                continue
            assert part.inputs.keys() == batch.inputs.keys() == {"audio", "visual"}
            for modality, values in batch.inputs.items():
                np.testing.assert_array_equal(part.inputs[modality], values[rows])
