"""A stage: one part of the epoch budget, trained by one method."""

from __future__ import annotations

from dataclasses import dataclass


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
