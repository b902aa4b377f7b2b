"""The options that several commands share: each name, help text and setting is written once.

`@with_settings(GROUP, ...)` adds groups of options to a command, with `--config` and `--set`, and passes what
the user gave to the command as a `Given`. The defaults are those of the settings. Help shows them, and the
values of presets that differ.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from mgap_cli import config as configuration
from mgap_cli import methods
from mgap_cli.config import Config

CONFIGURATION = "Configuration"
TRAINING = "Training"
RUNTIME = "Machine"
OUTPUT = "Output"
SOURCE = "Data set"

Group = Mapping[str, Any]


@dataclass(frozen=True)
class Setting:
    """The setting that an option sets. value: converts the user's input to the setting's value."""

    key: str
    value: Callable[[Any], Any] = lambda given: given


@dataclass(frozen=True)
class Given:
    """The user's input: settings by key, a YAML file, and the words of `--set`."""

    settings: dict[str, Any] = field(default_factory=dict)
    file: Path | None = None
    sets: tuple[str, ...] = ()

    def over(self, base: Config) -> Config:
        """Return `base` changed by everything given; UsageError for an unknown key or an invalid value."""
        return configuration.resolve(base, file=self.file, sets=self.sets, flags=self.settings)


def setting(
    key: str,
    type_: Any,
    help: str,
    *names: str,
    panel: str = TRAINING,
    value: Callable[[Any], Any] = lambda given: given,
    **more: Any,
) -> Any:
    """Return the annotation of an option that sets `key`, its default and the presets' shown in help.

    names: the option's names, if they differ from the parameter's. panel: the heading in the help text.
    """
    more.setdefault("show_default", _default_text(key))
    option = typer.Option(*names, help=help, rich_help_panel=panel, **more)
    return Annotated[type_ | None, option, Setting(key, value)]


def _default_text(key: str) -> str | bool:
    """Return a setting's default and the different values of presets, such as `100; digits: 18`."""
    defaults, presets = _defaults()
    if key not in defaults:
        return False  # a setting of a method, whose file takes seconds to import
    default = defaults[key]
    different = [f"{name}: {flat[key]}" for name, flat in presets.items() if flat[key] != default]
    return "; ".join([str(default), *different] if default != "" else different) or False


@functools.cache
def _defaults() -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return every default by key, and every setting of each data set's preset by key."""
    presets = {name: configuration.preset(name).flat() for name in configuration.data_set_presets()}
    return Config().flat(), presets


def with_settings(*groups: Group) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add groups of options, `--config` and `--set` to a command, in place of its parameter `given`."""
    shared: dict[str, Any] = {name: option for group in groups for name, option in group.items()}
    settings = {
        name: next(a for a in get_args(option) if isinstance(a, Setting)) for name, option in shared.items()
    }

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**values: Any) -> None:
            chosen = {name: values.pop(name) for name in shared}
            flags = {settings[n].key: settings[n].value(v) for n, v in chosen.items() if v is not None}
            file, sets = values.pop("config"), values.pop("sets")
            command(**values, given=Given(flags, file, tuple(sets or ())))

        signature = inspect.signature(command, eval_str=True)
        parameters: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            if parameter.name != "given":
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
                continue
            for name, option in {**shared, "config": ConfigFile, "sets": Sets}.items():
                parameters.append(_keyword_only(name, option))
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def _keyword_only(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _float32(tf32: bool) -> configuration.Float32Name:
    return "tf32" if tf32 else "ieee"


CHECKPOINT_HELP = "A checkpoint (.pt), or a run folder: the checkpoint of its last finished stage."
Checkpoint = Annotated[Path, typer.Argument(help=CHECKPOINT_HELP, show_default=False)]
StoreArgument = Annotated[
    Path, typer.Argument(help="A store: the folder that `mgap prepare` wrote.", show_default=False)
]
StoreOption = Annotated[
    Path | None, typer.Option("--store", help="The store, if it has moved since the training.")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout.", rich_help_panel=OUTPUT)
]
Quiet = Annotated[
    bool,
    typer.Option("-q", "--quiet", help="Print no progress and no log on stderr.", rich_help_panel=OUTPUT),
]
Force = Annotated[bool, typer.Option("--force", help="Replace what an earlier run left in the folder.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only print configuration, device, sample counts and steps.")
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", help="A YAML file of settings.", rich_help_panel=CONFIGURATION, show_default=False
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Any setting, such as train.momentum=0.8; repeatable. `mgap list settings` shows them.",
        rich_help_panel=CONFIGURATION,
        show_default=False,
    ),
]


def _output(help: str, default: str, **more: Any) -> Any:
    """Return the option `-o`, which names what a command writes; `default` is shown in help."""
    return typer.Option("-o", "--output", help=help, show_default=default, rich_help_panel=OUTPUT, **more)


StoreFolder = Annotated[Path | None, _output("Store folder.", "mgap-data/<dataset>")]
RunFolder = Annotated[Path | None, _output("Run folder.", "mgap-runs/<store>-seed<seed>")]
NextRunFolder = Annotated[Path | None, _output("Run folder.", "the checkpoint's")]
DEFAULT_RESULTS = Path("mgap-results")
ResultsFolder = Annotated[Path | None, _output("Folder of the comparison.", str(DEFAULT_RESULTS))]
PredictionFile = Annotated[
    Path,
    typer.Option(
        "-o",
        "--output",
        help="The file to write; its suffix decides the format.",
        metavar="FILE.csv|.npz|.parquet",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
Page = Annotated[Path | None, _output("The page.", "RUN/report.html", metavar="FILE.html")]

OutputFolder = Annotated[Path | None, _output("Folder of all files that the command writes.", "the input's")]
ContactSheet = Annotated[Path | None, _output("The page.", "STORE-clips.png beside it", metavar="FILE.png")]

NAME_OR_FILE = "NAME|FILE.py:CLASS"
METHOD_HELP = f"{', '.join(methods.names())}; or your own, as path/to/file.py:Name."


def method(key: str) -> Any:
    """Return the annotation of `--method` for the stage whose method `key` names."""
    return setting(key, str, METHOD_HELP, "--method", metavar=NAME_OR_FILE, autocompletion=methods.names)


SEED = {"seed": setting("train.seed", int, "Random seed for initialisation, data order and augmentation.")}
BUDGET: Group = {
    "epochs": setting("train.epochs", int, "Epochs of the whole budget, all stages together.", "--epochs")
}
OPTIMISATION: Group = {
    "batch_size": setting("train.batch_size", int, "Samples per step."),
    "lr": setting("train.lr", float, "Initial learning rate.", "--lr"),
    "optimizer": setting("train.optimizer", configuration.OptimizerName, "Optimizer."),
    "schedule": setting("train.schedule", configuration.ScheduleName, "Learning rate over the epochs."),
    "clip_norm": setting("train.clip_norm", float, "Largest gradient norm; 0 turns clipping off."),
    "select": setting(
        "train.select",
        configuration.Selection,
        "Which epoch to keep: best on validation (val), the last, or best on test.",
    ),
    **SEED,
}
NETWORK: Group = {
    "encoder": setting(
        "model.encoder",
        str,
        f"Encoder of each modality that it accepts: {', '.join(configuration.ENCODERS.names())}; "
        "or your own, as path/to/file.py:Name.",
        metavar=NAME_OR_FILE,
        autocompletion=configuration.ENCODERS.names,
    ),
    "fusion": setting(
        "model.fusion",
        str,
        f"Fusion layer: {', '.join(configuration.FUSIONS.names())}; or your own, as path/to/file.py:Name.",
        metavar=NAME_OR_FILE,
        autocompletion=configuration.FUSIONS.names,
    ),
}
DECISION: Group = {
    "rule": setting(
        "evaluate.rule",
        str,
        f"Decision rule that is reported: {', '.join(configuration.RULES.names())}. With auto, validation "
        "chooses the rule. Or your own, as path/to/file.py:Name.",
        panel="Options",
        metavar=NAME_OR_FILE,
        autocompletion=configuration.RULES.names,
    ),
}
DEVICE: Group = {
    "device": setting("runtime.device", str, "auto, cpu, cuda, cuda:N or mps.", panel=RUNTIME),
}
MACHINE: Group = {
    **DEVICE,
    "precision": setting(
        "runtime.precision", configuration.PrecisionName, "Number format of training.", panel=RUNTIME
    ),
    "threads": setting(
        "runtime.threads",
        str,
        "CPU threads; auto: OMP_NUM_THREADS, else the cores that are idle at the start of the run.",
        panel=RUNTIME,
        metavar="auto|N",
    ),
    "sync_bn": setting(
        "runtime.sync_bn",
        bool,
        "With torchrun: compute batch normalisation over the whole batch, not over the share of each GPU.",
        "--sync-bn",
        panel=RUNTIME,
        show_default=False,
    ),
    "tf32": setting(
        "runtime.float32",
        bool,
        "Multiply float32 numbers on a GPU in TF32, or exactly.",
        "--tf32/--no-tf32",
        panel=RUNTIME,
        value=_float32,
        show_default=False,
    ),
    "deterministic": setting(
        "runtime.deterministic",
        bool,
        "Compute the same bits each time, also on a GPU; operations that cannot do so are an error.",
        "--deterministic",
        panel=RUNTIME,
        show_default=False,
    ),
    "compile": setting(
        "runtime.compile",
        bool,
        "Compile the network with torch.compile.",
        "--compile",
        panel=RUNTIME,
        show_default=False,
    ),
    "report_to": setting(
        "runtime.report_to",
        configuration.LoggerName,
        "Experiment tracker that also gets the figures of metrics.jsonl: "
        f"{', '.join(get_args(configuration.LoggerName))}.",
        panel=RUNTIME,
        metavar="TRACKER",
    ),
}


def _source(help: str, *names: str) -> Any:
    return typer.Option(*names, help=help, show_default=False, rich_help_panel=SOURCE)


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
Variant = Annotated[
    configuration.DigitsVariant | None,
    typer.Option(
        help="digits: replace the pictures, so that the cause of the imbalance is known: "
        f"{', '.join(get_args(configuration.DigitsVariant))}.",
        metavar="VARIANT",
        show_default=False,
        rich_help_panel=SOURCE,
    ),
]
AllowSkips = Annotated[
    bool, _source("Continue if more than 5 % of the clips cannot be read.", "--allow-skips")
]
Modalities = Annotated[
    str | None,
    _source("features: the arrays to use, such as audio,text; default: all with shape (N, D) or (N, T, D)."),
]
Preset = Annotated[
    str | None,
    _source(
        "Preset to take the settings from, such as cremad-fbank; default: the data set's own.", "--preset"
    ),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Number of processes that decode clips.", show_default="all cores")
]
