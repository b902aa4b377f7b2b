"""Every method of mgap learns, resumes bit for bit, and trains the same on two processes.

These tests find a new method by its file.
"""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.frozen import with_frozen_batch_norm
from helpers.launched import Launched, script
from helpers.program import assert_same_checkpoint, here, sets, tensors

from mgap_cli.config import Config, DataConfig, resolve
from mgap_cli.data.loading.loader import Batch
from mgap_cli.data.prepare.build import build_store
from mgap_cli.data.sources import load_dataset
from mgap_cli.data.store import open_store
from mgap_cli.methods import load_method, names
from mgap_cli.output import Output
from mgap_cli.training.trained_model import open_trained
from mgap_cli.training.trainer import Trainer
from mgap_cli.workflow.stages import train

TINY = [
    *("model.encoder=mlp", "model.hidden=8", "augment.image_size=8", "train.batch_size=16"),
    *("evaluate.bootstrap=50", "gap.n_init=1"),
]
MODALITIES = ("audio", "visual")
ROWS, CLASSES = 121, 4  # an odd number, so that the shares of two processes differ
EPOCHS = 8  # epochs of the whole budget; half are for a warm-up or teachers, if the method has them
BUDGET = [f"train.epochs={EPOCHS}", f"warmup.epochs={EPOCHS // 2}", "adapt.epochs=0"]
# AdamW divides by small gradients, and their rounding would show.
TWICE = ["train.epochs=3", "warmup.epochs=1", "adapt.epochs=0", "train.select=last", "train.optimizer=sgd"]
# Settings that count epochs: with 1, the short training has epochs of every kind.
SHORT = {"reconboost": ("epochs", "correction"), "relearning": ("every",)}


def method_settings(name: str) -> list[str]:
    """Return the settings that a method requires, and those that a short training needs."""
    fields = {field.name: field.default for field in dataclasses.fields(load_method(name).Settings)}
    required = [f"{name}.modality=audio"] if fields.get("modality") == "" else []
    return required + [f"{name}.{key}=1" for key in SHORT.get(name, ())]


def settings_of(name: str, *words: str) -> list[str]:
    return [*TINY, *words, *method_settings(name)]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """A store of features whose classes are separate, more clearly in `visual` than in `audio`."""
    folder = tmp_path_factory.mktemp("features")
    draw = np.random.default_rng(0)
    label = np.arange(ROWS) % CLASSES
    content = {
        "label": label,
        "classes": np.array([f"c{i}" for i in range(CLASSES)]),
        "audio": draw.normal(size=(ROWS, 5)) + draw.normal(size=(CLASSES, 5))[label],
        "visual": draw.normal(size=(ROWS, 6)) + 2 * draw.normal(size=(CLASSES, 6))[label],
    }
    np.savez(folder / "features.npz", **content)
    config = DataConfig(val_share=0.2)
    dataset = load_dataset("features", folder / "features.npz", config)
    return build_store(dataset, config, folder / "store", Output(quiet=True)).path


class Killed(Exception):
    """Raised to end a training in the middle of an epoch."""


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory) -> Any:
    """Return the run folder of a method's uninterrupted training, which the first call makes."""
    root = tmp_path_factory.mktemp("whole")

    def run(name: str) -> Path:
        folder = root / name
        if not folder.exists():
            train(name, open_store(store), config_of(name), folder, Output(quiet=True))
        return Path(folder)

    return run


def config_of(name: str, *more: str) -> Config:
    words = settings_of(name, *BUDGET, "train.lr=0.01", "train.optimizer=adamw", *more)
    return resolve(Config(), sets=words, environment={})


@pytest.mark.parametrize("name", names())
def test_it_learns(name, whole):
    """After a few epochs, its first head is right on twice as many training samples as a constant class."""
    stage = load_method(name).recipe(config_of(name), MODALITIES)[-1].name
    model = open_trained(whole(name) / f"{stage}.pt", torch.device("cpu"))
    predicted = model.predict("train")
    chosen = predicted.probabilities[model.heads[0]].argmax(1)
    share = float((chosen == predicted.labels).mean())
    most = np.bincount(predicted.labels).max() / len(predicted.labels)
    assert share > 2 * most, (share, most)


@pytest.mark.parametrize("name", names())
def test_it_resumes_bit_for_bit_in_the_middle_of_every_stage(name, store, whole, tmp_path, monkeypatch):
    """Each stage is stopped within its second and its third epoch, and continues from the checkpoint."""
    killed: list[tuple[str, int]] = []
    plain = Trainer._train_step

    def train_step(trainer: Trainer, batch: Batch) -> None:
        moment = trainer.stage.name, trainer.epoch
        if moment not in killed and trainer.epoch in (1, 2) and trainer.step == 3:
            killed.append(moment)
            raise Killed
        plain(trainer, batch)

    monkeypatch.setattr(Trainer, "_train_step", train_step)
    stages = [stage.name for stage in load_method(name).recipe(config_of(name), MODALITIES)]
    config = config_of(name, "runtime.save_every=1e-9")  # after every step
    for _ in range(2 * len(stages) + 1):
        with suppress(Killed):
            train(name, open_store(store), config, tmp_path, Output(quiet=True))
    assert {stage for stage, epoch in killed if epoch == 1} == set(stages)
    assert (stages[-1], 2) in killed
    for stage in stages:
        for file in (f"{stage}.pt", f"{stage}-last.pt"):
            for part in (".model", ".loop.optimizers", ".history", ".selected"):
                assert_same_checkpoint(whole(name) / file, tmp_path / file, part)


def lines(store: Path, folder: Path) -> list[list[object]]:
    """Return the commands that train every method into folders of their names."""
    return [
        ["train", store, "-o", folder / name, "--method", name, *sets(*settings_of(name, *TWICE))]
        for name in names()
    ]


@pytest.fixture(scope="module")
def together(store, tmp_path_factory) -> Path:
    """The results of two processes, with frozen statistics of batch norm."""
    folder = tmp_path_factory.mktemp("together")
    program, plan = script(folder, lines(store, folder))
    launched = Launched(folder, plan, program=(program,))
    assert launched.wait() == 0, launched.err.read_text()[-3000:]
    return Path(folder)


@pytest.fixture(scope="module")
def alone(store, tmp_path_factory) -> Path:
    """The results of one process, with frozen statistics of batch norm."""
    from mgap_cli.training.task import Task

    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Task, "train", with_frozen_batch_norm(Task.train))
        for line in lines(store, folder):
            done = here(*line)
            assert done.code == 0, done.err
    return Path(folder)


@pytest.mark.parametrize("name", names())
def test_two_processes_train_the_same_as_one(name, alone, together):
    for stage in load_method(name).recipe(config_of(name), MODALITIES):
        one, two = (tensors(folder / name / f"{stage.name}.pt") for folder in (alone, together))
        compared = [key for key in one if key.startswith(".model.")]
        assert compared and compared == [key for key in two if key.startswith(".model.")]
        for key in compared:
            torch.testing.assert_close(two[key], one[key], rtol=2e-4, atol=2e-5, equal_nan=True, msg=key)
