"""Every option that commands share, once. Their defaults live in `config.py`: here None means not given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

_CONFIGURATION = "Configuration"
_TRAINING = "Training"
_OUTPUT = "Output"

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
    return typer.Option(*names, help=help, show_default="from the preset", rich_help_panel=_TRAINING)


Seed = Annotated[int | None, _training("Of weights, order and augmentation.")]
Objective = Annotated[str | None, _training("What to minimise.")]
Epochs = Annotated[int | None, _training("Epochs of this stage.")]
BatchSize = Annotated[int | None, _training("Samples a step.")]
LearningRate = Annotated[float | None, _training("Initial learning rate.", "--lr")]
Optimizer = Annotated[str | None, _training("sgd or adamw.")]
Schedule = Annotated[str | None, _training("Learning rate over epochs: step, cosine or constant.")]
ClipNorm = Annotated[float | None, _training("Largest gradient norm; 0 turns clipping off.")]
Select = Annotated[str | None, _training("Which epoch becomes the checkpoint: val, last or test.")]
Encoder = Annotated[str | None, _training("resnet18 or resnet10.")]
Fusion = Annotated[str | None, _training("concat, sum, film or gated.")]
Device = Annotated[str | None, _training("auto, cpu, cuda, cuda:N or mps.")]
Precision = Annotated[str | None, _training("auto, fp32, bf16 or fp16.")]
