"""Choose the checkpoints of a run folder that a command uses."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from mgap_cli.errors import UnfitError
from mgap_cli.files import STORE_MARK, is_checkpoint
from mgap_cli.output import Output
from mgap_cli.runs.layout import CHECKPOINT_FORMAT, STAGES, read_metrics

_WORKING = ("-last", "-best")  # endings of the files that a stage writes while it trains


def checkpoint_in(path: Path, sink: Output, without: Collection[str] = ()) -> Path:
    """Return `path`; for a run folder, return and log the checkpoint of its last finished stage.

    without: stages that do not count. A path that is not a folder is returned as it is. Raises UnfitError
    for a folder without such a checkpoint.
    """
    if not path.is_dir():
        return path
    finished = [checkpoint for checkpoint in finished_checkpoints(path) if checkpoint.stem not in without]
    if not finished:
        if (path / STORE_MARK).exists():
            raise UnfitError(f"{path}: is a store, not a checkpoint.", "Give a .pt file or a run folder.")
        before = f" before {' and '.join(without)}" if without else ""
        raise UnfitError(
            f"{path}: no checkpoint of a finished stage{before} is in this folder.",
            "Give a .pt file or a run folder. If its training was stopped, run the same command again.",
        )
    sink.log(f"{path}: taking {finished[-1].name}, of its last finished stage")
    return finished[-1]


def finished_checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints of a run folder's finished stages, in the order of training.

    Raises UnfitError if the folder has stages of other names and its metrics.jsonl is damaged.
    """
    paths = {
        path.stem: path
        for path in sorted(run.glob("*.pt"))
        if not path.stem.endswith(_WORKING) and is_checkpoint(path, CHECKPOINT_FORMAT.encode())
    }
    order = list(STAGES)
    if not paths.keys() <= {*order}:
        order = [*(entry["stage"] for entry in read_metrics(run)), *order]
    return [paths[stem] for stem in dict.fromkeys([*order, *paths]) if stem in paths]


def without_working_files(checkpoints: Sequence[Path], sink: Output) -> list[Path]:
    """Return the checkpoints without files of the form STAGE-last.pt that would count twice; log each.

    A shell's RUN/*.pt gives RUN/adapt-last.pt, from which training resumes, beside RUN/adapt.pt. Where adapt
    is not finished in one of several runs, its adapt-last.pt would count as a seed of the others' adapt.pt.
    """
    given = {path.resolve() for path in checkpoints}
    stages = {path.stem for path in checkpoints if not path.stem.endswith(_WORKING)}
    kept = []
    for path in checkpoints:
        stage = path.stem.removesuffix("-last").removesuffix("-best")
        chosen = path.with_name(f"{stage}{path.suffix}")
        if chosen.name == path.name or stage not in stages:
            kept.append(path)
        elif chosen.resolve() in given:
            sink.log(f"left out {path}: {chosen.name} is given too, and is the epoch that the stage chose")
        else:
            sink.warn(f"left out {path}: {stage} is not finished there, and is in other folders given.")
    return kept
