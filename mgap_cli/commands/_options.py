"""Every option that commands share, once. Their defaults live in `config.py`: here None means not given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mgap_cli import config as configuration
from mgap_cli import methods

_CONFIGURATION = "Configuration"
_TRAINING = "Training"
_OUTPUT = "Output"
_SOURCE = "Data set"

Checkpoint = Annotated[Path, typer.Argument(help="A .pt file from warmup or adapt.", show_default=False)]
StoreArgument = Annotated[
    Path, typer.Argument(help="A folder that `mgap prepare` wrote.", show_default=False)
]
StoreOption = Annotated[
    Path | None, typer.Option("--store", help="The data, if it is no longer where the checkpoint says.")
]
RunDir = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--run",
        help="Run folder.",
        show_default="mgap-runs/<store>-seed<seed>",
        rich_help_panel=_OUTPUT,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.", rich_help_panel=_OUTPUT)]
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", help="No progress and no log on stderr.", rich_help_panel=_OUTPUT)
]
Force = Annotated[bool, typer.Option("--force", help="Replace what an earlier run left in the folder.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print configuration, device, sample counts and steps; do nothing.")
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", help="A YAML file of settings.", rich_help_panel=_CONFIGURATION, show_default=False
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Any setting, such as train.momentum=0.8; repeatable.",
        rich_help_panel=_CONFIGURATION,
        show_default=False,
    ),
]


def _training(help: str, *names: str) -> Any:
    return typer.Option(*names, help=help, show_default=False, rich_help_panel=_TRAINING)


Seed = Annotated[int | None, _training("Of weights, order and augmentation.")]
METHOD_HELP = f"{', '.join(methods.names())}; or your own, as path/to/file.py:Name."
Method = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="NAME|FILE.py:CLASS",
        help=METHOD_HELP,
        show_default=False,
        rich_help_panel=_TRAINING,
    ),
]
Epochs = Annotated[int | None, _training("Epochs of this stage; the budget is train.epochs.")]
BatchSize = Annotated[int | None, _training("Samples a step.")]
LearningRate = Annotated[float | None, _training("Initial learning rate.", "--lr")]
Optimizer = Annotated[configuration.OptimizerName | None, _training("Optimizer.")]
Schedule = Annotated[configuration.ScheduleName | None, _training("Learning rate over epochs.")]
ClipNorm = Annotated[float | None, _training("Largest gradient norm; 0 turns clipping off.")]
Select = Annotated[configuration.Selection | None, _training("Which epoch becomes the checkpoint.")]
Encoder = Annotated[configuration.EncoderName | None, _training("Both encoders.")]
Fusion = Annotated[configuration.FusionName | None, _training("How the features meet.")]
Device = Annotated[str | None, _training("auto, cpu, cuda, cuda:N or mps.")]
Precision = Annotated[configuration.PrecisionName | None, _training("Number format of training.")]
SyncBn = Annotated[
    bool | None, _training("torchrun: batch norm over the whole batch, not a GPU's share.", "--sync-bn")
]
Tf32 = Annotated[
    bool | None,
    _training("Multiply float32 on a GPU in TF32, or exactly.", "--tf32/--no-tf32"),
]
Deterministic = Annotated[
    bool | None,
    _training("The same bits each time, on a GPU too; refuses what cannot.", "--deterministic"),
]
Compile = Annotated[bool | None, _training("Compile the network with torch.compile.", "--compile")]
ReportTo = Annotated[
    configuration.LoggerName | None, _training("A logger beside metrics.jsonl.", "--report-to")
]


def float32(tf32: bool | None) -> configuration.Float32Name | None:
    """Return the setting that --tf32 or --no-tf32 stands for."""
    return None if tf32 is None else "tf32" if tf32 else "ieee"


def _source(help: str, *names: str) -> Any:
    return typer.Option(*names, help=help, show_default=False, rich_help_panel=_SOURCE)


Label = Annotated[str | None, _source("manifest: the label column.")]
Split = Annotated[
    list[str] | None,
    _source("cremad: random, speaker, or a split file of the literature; repeatable.", "--split"),
]
Segment = Annotated[Literal["clip", "event"] | None, _source("ave: the whole clip or the annotated event.")]
KeepLeaks = Annotated[
    bool, _source("ave: keep training clips whose video is in val or test.", "--keep-leaks")
]
Strict = Annotated[bool, _source("kinetics-sounds: a missing clip is an error.", "--strict")]
AllowSkips = Annotated[
    bool, _source("Go on though more than 5 % of the clips are unreadable.", "--allow-skips")
]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes that decode.", show_default="all cores")]
