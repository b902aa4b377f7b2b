"""The options of `mgap compare` for its Slurm jobs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mgap_cli.errors import UsageError

DEFAULT_TIME_LIMIT = "04:00:00"
WARNING_SECONDS = 120  # between USR1 and the end of the time limit
_SHORTEST_MINUTES = 5  # time for the start, a few steps of training, and the seconds above
_TIME = re.compile(
    r"(?:(?P<days>\d+)-(?P<d_hours>\d+)(?::(?P<d_minutes>\d+)(?::(?P<d_seconds>\d+))?)?"
    r"|(?P<hours>\d+):(?P<h_minutes>\d+):(?P<h_seconds>\d+)|(?P<minutes>\d+)(?::(?P<seconds>\d+))?)"
)


@dataclass(frozen=True)
class SlurmRequest:
    """The user's request to Slurm.

    parallel: number of cells that run at the same time, None for all. minutes: time limit of one start of a
    cell. more: other options of sbatch by name, True for an option without a value.
    """

    parallel: int | None = None
    minutes: int = 240
    partition: str | None = None
    account: str | None = None
    more: Mapping[str, str | bool] = field(default_factory=dict)


def minutes_of(text: str) -> int:
    """Return a time limit in minutes, rounded up, from a text in one of Slurm's formats.

    The formats are M, M:S, H:M:S, D-H, D-H:M and D-H:M:S. Raises UsageError for anything else, and for a
    limit that is too short for training.
    """
    match = _TIME.fullmatch(text)
    if not match:
        raise UsageError(
            f"--time-limit {text}: Slurm does not accept this time.",
            "Use minutes, HH:MM:SS or DAYS-HH:MM:SS.",
        )
    seconds = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}
    total = sum(
        int(value) * seconds[name.rpartition("_")[2]] for name, value in match.groupdict().items() if value
    )
    minutes = -(-total // 60)
    if minutes < _SHORTEST_MINUTES:
        raise UsageError(
            f"--time-limit {text}: a job needs at least {_SHORTEST_MINUTES} minutes.",
            f"Slurm's signal comes {WARNING_SECONDS // 60} minutes before the end; a job must train first.",
        )
    return minutes


def sbatch_options(words: Sequence[str]) -> dict[str, str | bool]:
    """Return the options of `--sbatch`: `gres=gpu:1`, or `exclusive` without a value."""
    options: dict[str, str | bool] = {}
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if not re.fullmatch(r"[a-z][a-z-]*", name) or "\n" in value or name in ("array", "output", "error"):
            raise UsageError(
                f"--sbatch {word}: this is not an option that mgap can pass to sbatch.",
                "Use --sbatch NAME=VALUE, as for sbatch.",
            )
        options[name] = value if equals else True
    return options


def require_for_slurm(slurm: bool, of_jobs: Mapping[str, object], of_processes: Mapping[str, object]) -> None:
    """Check that the options fit the place where cells run: Slurm jobs or local processes.

    of_jobs: the options for Slurm jobs, by name. of_processes: the options for local processes. None and []
    are options that were not given. Raises UsageError.
    """
    for name, value in (of_processes if slurm else of_jobs).items():
        if value and slurm:
            raise UsageError(
                f"{name} and --slurm were both given.",
                f"{name} is for processes on this machine. Leave it out.",
            )
        if value:
            raise UsageError(f"{name} was given without --slurm.", f"Add --slurm, or leave {name} out.")
