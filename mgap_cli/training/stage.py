"""A stage: one part of the epoch budget, trained by one method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mgap_cli.methods import load_method

if TYPE_CHECKING:
    from mgap_cli.config import Config

_ALWAYS = ("model", "augment", "train")
_BY_STAGE = {"warmup": ("warmup",), "adapt": ("warmup", "adapt", "gap")}
_OTHER_STAGES = ("gap",)


@dataclass(frozen=True)
class Stage:
    """One part of the epoch budget.

    name: the stem of its files in the run folder, such as "warmup". method: its name, or path.py:Class.
    start_epoch: epochs of the budget that earlier stages have spent. schedule_epochs: epochs of the whole
    budget, which the learning rate's schedule spans. parent_digest: identifies the checkpoint that the stage
    starts from; empty for new weights.
    """

    name: str
    method: str
    epochs: int
    schedule_epochs: int
    start_epoch: int = 0
    parent_digest: str = ""


def budget(stage: str, config: Config) -> int:
    """Return how many epochs of the budget are spent after a stage: its own and those of earlier stages."""
    if stage == "warmup":
        return config.warmup.epochs
    if stage == "adapt" and config.adapt.epochs:
        return config.warmup.epochs + config.adapt.epochs
    return config.train.epochs


def deciding_sections(stage: str, method: str, config: Config) -> tuple[str, ...]:
    """Return the sections of the settings that decide a stage's weights.

    `runtime` is not one of them: it may change between a run and its resumption.
    """
    methods = [load_method(method).name]
    if stage == "adapt":
        methods.append(load_method(config.warmup.method).name)
    return (*_ALWAYS, *_BY_STAGE.get(stage, _OTHER_STAGES), *methods)
