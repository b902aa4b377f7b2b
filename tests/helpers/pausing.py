"""Pauses a program at a chosen place, so that no test depends on which of two processes is faster.

Each variable names a folder; it must not have a ":" in an earlier part.

    PAUSE_AT=EPOCH:STEP:FOLDER       `warmup` or `adapt`, after this training step (both counted from 0)
    PAUSE_PREPARE=CLIPS:FOLDER       `prepare`, when so many clips are in its journal

A pause creates FOLDER/NAME, with the run folder's name or "prepare", and there is none where that exists.
It ends when FOLDER/go exists, or with SIGTERM, SIGUSR1 or SIGINT, which then act as if they came there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

GO = "go"
_CAUGHT = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


def install() -> None:
    """Do what the variables ask for, in this process."""
    if "PAUSE_AT" in os.environ:
        epoch, step, folder = os.environ["PAUSE_AT"].split(":", 2)
        _pause_training((int(epoch), int(step)), Path(folder))
    if "PAUSE_PREPARE" in os.environ:
        clips, folder = os.environ["PAUSE_PREPARE"].split(":", 1)
        _pause_prepare(int(clips), Path(folder))


def _pause_training(moment: tuple[int, int], folder: Path) -> None:
    from mgap_cli.training.trainer import Trainer

    plain = Trainer._train_step

    def train_step(trainer: Trainer, batch: Any) -> None:
        plain(trainer, batch)
        if (trainer.epoch, trainer.step) == moment:
            _pause(folder / trainer.run.name)

    Trainer._train_step = train_step  # type: ignore[method-assign]


def _pause_prepare(clips: int, folder: Path) -> None:
    from mgap_cli.data.prepare import build

    plain = build.run_watched

    def run_watched(*args: Any) -> Any:
        with contextlib.closing(plain(*args)) as results:
            for done, result in enumerate(results):
                if done == clips:
                    _pause(folder / "prepare")
                yield result

    build.run_watched = run_watched


def _pause(marker: Path) -> None:
    if marker.exists():
        return
    caught: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: caught.append(number)) for number in _CAUGHT
    }
    marker.touch()
    while not caught and not (marker.parent / GO).exists():
        time.sleep(0.005)
    for number, handler in before.items():
        signal.signal(number, handler)
    for number in caught:
        signal.raise_signal(number)
