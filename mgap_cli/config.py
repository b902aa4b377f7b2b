"""Every setting of a run with its default, as frozen dataclasses that are saved as YAML.

Precedence, lowest first: the defaults here, a preset (`presets/*.yaml`), the user's YAML file,
`MGAP_SECTION__KEY` in the environment, `--set section.key=value`, named flags.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, Literal

import yaml

from mgap_cli.errors import UsageError
from mgap_cli.files import require_regular_file
from mgap_cli.plugins import absolute_spec, is_plugin
from mgap_cli.registry import stems
from mgap_cli.yaml_reader import parse_yaml, shown

ENVIRONMENT_PREFIX = "MGAP_"
LARGEST_FILE = 1_000_000  # bytes of a settings file: far more than all settings take
LARGEST_COUNT = 2**31 - 1
LARGEST_NUMBER = 1e30  # far below the largest float32 number, 3e38
_KIND_NAMES = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}

UnimodalLogits = Literal["heads", "decomposed"]
OptimizerName = Literal["sgd", "adamw"]
ScheduleName = Literal["step", "cosine", "constant"]
Selection = Literal["val", "last", "test"]
GapKind = Literal["absolute", "signed"]
GapScale = Literal["log", "probability"]  # this and the next three: choices of the adaptive loss
StopGradient = Literal["leading", "none"]
Shift = Literal["squared", "kl"]
ScoreSource = Literal["pass", "online"]
PrecisionName = Literal["auto", "fp32", "bf16", "fp16"]
Float32Name = Literal["auto", "tf32", "ieee"]
LoggerName = Literal["none", "tensorboard", "wandb", "trackio"]


_ENCODERS = ("model/encoders", ("base", "residual"))


@dataclass(frozen=True)
class _Range:
    low: float
    high: float
    open_low: bool

    def holds(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return above and value <= self.high  # false for NaN

    def __str__(self) -> str:
        return f"{'above' if self.open_low else 'at least'} {self.low:.10g} and at most {self.high:.10g}"


def bounded(default: float, low: float, high: float = LARGEST_NUMBER, open_low: bool = False) -> Any:
    return field(default=default, metadata={"range": _Range(low, high, open_low)})


def count(default: int, high: int = LARGEST_COUNT) -> Any:
    return bounded(default, 1, high)


def seed(default: int) -> Any:
    return bounded(default, 0, 2**32 - 1)


def positive(default: float) -> Any:
    return bounded(default, 0, open_low=True)


def at_least_zero(default: float) -> Any:
    return bounded(default, 0)


def levels(*default: float, low: float = 0, high: float = LARGEST_NUMBER, open_low: bool = True) -> Any:
    levels = tuple(map(float, default))  # as read from YAML, so that checkpoints do not differ in bytes
    return field(default=levels, metadata={"range": _Range(low, high, open_low)})


def named(default: str, package: str, without: tuple[str, ...]) -> Any:
    """A setting that names a file of a package, except those in `without`, or a user's class."""
    return field(default=default, metadata={"package": (package, without)})


def share(default: float) -> Any:
    return bounded(default, 0, 1, open_low=True)


@dataclass(frozen=True)
class DataConfig:
    """What `prepare` stores of each clip. Defaults: CREMA-D's protocol in the literature."""

    frames: int = count(1, 10_000)  # frames per clip, at uniform positions in time
    frame_size: int = count(256, 16_384)  # stored height and width, pixels
    sample_rate: int = count(22_050, 1_000_000)  # sample rate of the sound, Hz; one channel
    seconds: float = bounded(3.0, 0, 86_400, open_low=True)  # length of the sound, which is repeated or cut
    n_fft: int = count(512, 2**20)  # samples per window of the spectrogram
    hop: int = count(353, 2**20)  # samples between spectrogram columns: 257 x 188 at the defaults
    val_share: float = bounded(0.1, 0, 0.9)  # share of train for validation, if no split is given
    seed: int = seed(0)  # seed of splits that mgap draws, and of the embedded data set


@dataclass(frozen=True)
class ModelConfig:
    encoder: str = named("resnet18", *_ENCODERS)  # encoder of each modality that it accepts
    encoders: Mapping[str, str] = field(  # {modality: encoder}, for single modalities
        default_factory=dict, metadata={"package": _ENCODERS}
    )
    width: int = count(64, 16_384)  # channels of the first stage; 64 is torchvision's
    hidden: int = count(128, 16_384)  # width of the encoders mlp and temporal
    fusion: str = named("concat", "model/fusions", ("base",))
    unimodal: UnimodalLogits = "heads"  # logits of a modality: from its own head, or its part of the fusion's
    audio_weights: str = ""  # file of a torchvision state dict from which the audio encoder starts
    visual_weights: str = ""  # the same for the visual encoder


@dataclass(frozen=True)
class AugmentConfig:
    image_size: int = count(224, 16_384)  # height and width of what the network sees, pixels
    scale_min: float = share(0.08)  # smallest share of the area of a random crop; 1 turns cropping off
    flip: bool = True  # mirror half of the frames
    audio_mask: float = bounded(0.0, 0, 1)  # SpecAugment's largest masks, share of each axis; 0: none


@dataclass(frozen=True)
class TrainConfig:
    seed: int = seed(0)
    epochs: int = count(100)  # the budget of all stages together, which the schedule spans
    batch_size: int = bounded(64, 2, LARGEST_COUNT)  # samples per step of all processes; batch norm needs two
    optimizer: OptimizerName = "sgd"
    lr: float = positive(1e-3)
    momentum: float = at_least_zero(0.9)  # momentum of sgd
    weight_decay: float = at_least_zero(1e-4)  # weight decay of the optimizer
    schedule: ScheduleName = "step"
    step_size: int = count(70)  # schedule `step`: epochs between two reductions of the learning rate
    gamma: float = positive(0.1)  # schedule `step`: factor of each reduction
    clip_norm: float = at_least_zero(0.0)  # largest gradient norm; 0 turns clipping off
    select: Selection = "val"  # which epoch to keep: best on validation, last, or best on test
    max_bad_steps: int = count(10)  # steps in a row without a finite loss and gradient before training stops


@dataclass(frozen=True)
class WarmupConfig:
    """Joint training without intervention."""

    method: str = "joint-heads"  # training method of the warm-up
    epochs: int = count(33)  # epochs of the warm-up: it must stop well before memorisation


@dataclass(frozen=True)
class AdaptConfig:
    method: str = "adaptive"  # training method after the warm-up
    epochs: int = bounded(0, 0, LARGEST_COUNT)  # epochs after the warm-up; 0: the rest of the budget
    only: str = "all"  # samples to train on: all, balanced (purification), or a file that lists ids
    threshold: float = share(0.5)  # posterior of imbalance below which a sample counts as balanced


@dataclass(frozen=True)
class GapConfig:
    kind: GapKind = "absolute"  # whether the mixture is over absolute or signed gaps
    components: int = count(2, 1_000)  # components of the mixture
    n_init: int = count(20, 10_000)  # random starts for two components, besides 11 fixed ones (stats/em.py)
    sd_floor: float = bounded(1e-2, 1e-4, 1)  # smallest standard deviation of a component, as a gap
    seed: int = seed(0)  # seed of the random starts


@dataclass(frozen=True)
class AnalysisConfig:
    """How `analyze-gap` tests whether the mixture is real, and shows which samples are imbalanced."""

    resamples: int = count(199, 1_000_000)  # resamples of a bootstrap; 199: the smallest p-value is 1 / 200
    confidence: float = bounded(0.95, 0.5, 0.999)  # level of intervals; tests use 1 - confidence
    bins: int = bounded(4, 2, 10_000)  # quantile bins of a numeric column, such as the duration
    truth: str = ""  # column of clips.csv that says which samples are degraded, if that is known
    gradient_batches: int = count(50)  # `--measures`: largest number of batches whose gradients are computed
    seed: int = seed(0)  # seed of every bootstrap


@dataclass(frozen=True)
class EvaluateConfig:
    """Metrics of `evaluate`, and the levels of its robustness sweep.

    snr_db: signal-to-noise ratios of the sound, dB. frame_noise: standard deviations of the noise on the
    frames; white is 1.
    """

    bootstrap: int = count(2_000, 10_000_000)  # resamples of every bootstrap
    confidence: float = share(0.95)  # confidence level of the intervals
    top_k: int = count(5)  # the k of the top-k accuracy, left out if there are no more than k classes
    bins: int = count(15, 10_000)  # equal-width bins of confidence for the calibration error
    snr_db: tuple[float, ...] = levels(20, 10, 5, 0, -5, low=-100, high=100, open_low=False)
    frame_noise: tuple[float, ...] = levels(0.05, 0.1, 0.2, 0.4)
    occlusion: tuple[float, ...] = levels(0.1, 0.25, 0.5, 0.75, high=1)  # covered shares of the frame's area
    seed: int = seed(0)  # seed of bootstrap, noise and places of occlusion


@dataclass(frozen=True)
class RuntimeConfig:
    """Where and how a run computes; it may change between a run and its resumption."""

    device: str = "auto"  # where to compute: auto, cpu, cuda, cuda:N or mps
    precision: PrecisionName = "auto"
    eval_batch_size: int = count(256)  # samples per batch where nothing is trained
    sync_bn: bool = False  # several processes: batch norm over the whole batch, not over each share
    float32: Float32Name = "auto"  # how a GPU multiplies float32: in TF32's 10-bit mantissas, or exactly
    deterministic: bool = False  # refuse every operation whose result may differ between runs
    gpu_share: float = share(0.5)  # largest share of a GPU's free memory for the samples
    memory_share: float = share(0.5)  # largest share of available memory for the samples
    compile: bool = False  # compile the network with torch.compile
    save_every: float = at_least_zero(10.0)  # minutes between saves within an epoch; 0: only at its end
    report_to: LoggerName = "none"  # experiment tracker beside metrics.jsonl


@dataclass(frozen=True)
class Config:
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    warmup: WarmupConfig = field(default_factory=WarmupConfig)
    adapt: AdaptConfig = field(default_factory=AdaptConfig)
    gap: GapConfig = field(default_factory=GapConfig)
    analysis: AnalysisConfig = field(default_factory=AnalysisConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    methods: Mapping[str, Any] = field(default_factory=dict)

    def method_settings(self, name: str) -> Any:
        """Return the settings of a method: an instance of its `Settings`. UsageError if it is unknown."""
        if name in self.methods:
            return self.methods[name]
        settings = _method_section(name)
        if settings is None:
            raise UsageError(f"unknown method {name!r}.")
        return settings()

    def with_methods(self, names: Iterable[str]) -> Config:
        """Return a copy that includes the settings of these methods, also where they are defaults."""
        stated = {name: self.method_settings(name) for name in names}
        return dataclasses.replace(self, methods={**self.methods, **stated})

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return `{section: {key: value}}`, plain values only, without methods that have no settings."""
        sections = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "methods"}
        stated = {name: s for name, s in sorted(self.methods.items()) if dataclasses.fields(s)}
        return {name: dataclasses.asdict(section) for name, section in {**sections, **stated}.items()}

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    def flat(self) -> dict[str, Any]:
        """Return `{"section.key": value}`."""
        return {f"{s}.{k}": v for s, keys in self.to_dict().items() for k, v in keys.items()}

    def updated(self, changes: Mapping[str, Any], origin: str) -> Config:
        """Return a copy with `{"section.key": value}` applied.

        Raises UsageError, naming `origin`, for an unknown key (with a suggestion) or an invalid value.
        """
        stated = {key.partition(".")[0] for key in changes} - {f.name for f in dataclasses.fields(self)}
        whole = self.with_methods(sorted(name for name in stated if _method_section(name)))
        sections: dict[str, dict[str, Any]] = {}
        known = whole.flat()
        for key, value in _gathered(changes, known).items():
            if key not in known:
                known = whole.with_methods(_method_names()).flat()
                close = difflib.get_close_matches(key, known, n=1)
                hint = f"Did you mean {close[0]}?" if close else f"Known keys: {', '.join(known)}."
                raise UsageError(f"{origin}: unknown setting {shown(key)}.", hint)
            section, name = key.split(".")
            coerced = _coerced(key, value, _types(section)[name], origin)
            sections.setdefault(section, {})[name] = _known_names(section, name, coerced, origin)
        methods, core = dict(whole.methods), {}
        for section, values in sections.items():
            if section in methods:
                methods[section] = dataclasses.replace(methods[section], **values)
            else:
                core[section] = dataclasses.replace(getattr(self, section), **values)
        new = dataclasses.replace(whole, methods=methods, **core)
        _check_ranges(new, origin)
        return new


def from_dict(tree: Mapping[str, Any], origin: str, base: Config | None = None) -> Config:
    """Return `base` (default: the defaults) changed by a tree `{section: {key: value}}`."""
    return (base or Config()).updated(_flattened(tree, origin), origin)


def resolve(
    base: Config,
    *,
    file: Path | None = None,
    sets: Iterable[str] = (),
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Config:
    """Return `base` changed by a YAML file, the environment, `--set` and named flags, in that order.

    `flags` maps `section.key` to a value, or to None where the flag was not given.
    """
    config = base
    if file is not None:
        config = from_dict(read_yaml(file), str(file), config)
    env = _environment_changes(os.environ if environment is None else environment)
    config = config.updated(env, "environment")
    config = config.updated(dict(_parsed_set(word) for word in sets), "--set")
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    return config.updated(given, "command line")


def presets() -> list[str]:
    """Return the names of the presets that ship with the package."""
    folder = resources.files("mgap_cli") / "presets"
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml"))


def preset(name: str) -> Config:
    """Return the defaults changed by the preset `name`; only the defaults if there is no such preset."""
    if name not in presets():
        return Config()
    return from_dict(parse_yaml(_preset_text(name), f"preset {name}"), f"preset {name}")


def preset_summary(name: str) -> str:
    """Return what a preset's comment at the top says of it."""
    lines = _preset_text(name).splitlines()
    comment = lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    return " ".join(line.removeprefix("#").strip() for line in comment)


def _preset_text(name: str) -> str:
    return (resources.files("mgap_cli") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises UsageError where `path` is not a regular file of UTF-8 text and reasonable size, or does not hold
    one mapping of plain values (see `yaml_reader`).
    """
    require_regular_file(path, "a settings file")
    try:
        content = path.open("rb").read(LARGEST_FILE + 1)
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UsageError(f"{path}: the settings file cannot be read ({reason}).") from error
    if len(content) > LARGEST_FILE:
        raise UsageError(f"{path}: too large for a settings file (more than {LARGEST_FILE:,} bytes).")
    tree = parse_yaml(text, str(path))
    if not isinstance(tree, dict):
        raise UsageError(f"{path}: expected a mapping of sections, such as `train: {{lr: 0.01}}`.")
    return tree


def differing_keys(a: Config, b: Config, sections: Iterable[str]) -> dict[str, tuple[Any, Any]]:
    """Return `{key: (value in a, value in b)}` for the settings in `sections` that differ."""
    chosen = set(sections)
    methods = {*a.methods, *b.methods} & chosen
    left, right = a.with_methods(methods).flat(), b.with_methods(methods).flat()
    return {k: (left[k], right[k]) for k in left if k.split(".")[0] in chosen and left[k] != right[k]}


@cache
def _types(section: str) -> dict[str, Any]:
    settings = _method_section(section) or typing.get_type_hints(Config)[section]
    return typing.get_type_hints(settings)


_Finder = Callable[[str], type | None]
_finders: list[tuple[_Finder, Callable[[], Iterable[str]]]] = []


def find_sections_with(finder: _Finder, names: Callable[[], Iterable[str]]) -> None:
    """Add sections that this file does not know, such as those of methods.

    finder: returns the dataclass of a section by its name; None if it has no such section. names: returns
    the names of all its sections, for suggestions.
    """
    _finders.append((finder, names))


def _method_section(name: str) -> type | None:
    return next((settings for find, _ in _finders if (settings := find(name)) is not None), None)


def _method_names() -> list[str]:
    return [name for _, names in _finders for name in names()]


def _flattened(tree: Mapping[str, Any], origin: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for section, keys in tree.items():
        if not isinstance(keys, Mapping):
            raise UsageError(f"{origin}: {shown(section)} must hold a mapping of settings.")
        for key, value in keys.items():
            if not (isinstance(section, str) and isinstance(key, str)):
                wrong = key if isinstance(section, str) else section
                raise UsageError(f"{origin}: {shown(wrong)} is not the name of a setting.")
            flat[f"{section}.{key}"] = value
    return flat


def _gathered(changes: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes with `section.key.name` gathered into the mapping that `section.key` holds."""
    gathered = dict(changes)
    for key, value in changes.items():
        outer, _, name = key.rpartition(".")
        if key not in known and isinstance(known.get(outer), Mapping):
            del gathered[key]
            before = gathered.get(outer, known[outer])
            gathered[outer] = {**(before if isinstance(before, Mapping) else {}), name: value}
    return gathered


def _known_names(section: str, name: str, value: Any, origin: str) -> Any:
    """Return a value that names files of a package, a user's own with an absolute path.

    Raises UsageError for a name that the package does not have. Other settings' values return as they are.
    """
    settings = _method_section(section) or typing.get_type_hints(Config)[section]
    metadata = next(f.metadata for f in dataclasses.fields(settings) if f.name == name)
    if "package" not in metadata:
        return value
    if isinstance(value, Mapping):
        return {key: _known_name(f"{section}.{name}.{key}", v, metadata, origin) for key, v in value.items()}
    return _known_name(f"{section}.{name}", value, metadata, origin)


def _known_name(key: str, value: str, metadata: Mapping[str, Any], origin: str) -> str:
    package, without = metadata["package"]
    choices = stems([str(Path(__file__).parent / package)], without)
    if is_plugin(value):
        return absolute_spec(value)
    if value not in choices:
        expected = f"one of {', '.join(choices)}"
        raise UsageError(
            f"{origin}: {key} is {shown(value)}; expected {expected}, or your own as path/to/file.py:Name."
        )
    return value


def _environment_changes(environment: Mapping[str, str]) -> dict[str, Any]:
    # Only names with the double underscore are settings: MGAP_DEBUG and the like are not.
    changes: dict[str, Any] = {}
    for name, value in environment.items():
        if name.startswith(ENVIRONMENT_PREFIX) and "__" in name:
            section, _, setting = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
            dashed = section.replace("_", "-")  # a variable's name cannot have the dash of `ogm-ge`
            key = f"{dashed if dashed != section and _method_section(dashed) else section}.{setting}"
            if key in changes:
                raise UsageError(f"environment: {shown(name)} sets {key}, which another variable sets too.")
            changes[key] = parse_yaml(value, f"environment: {name}")
    return changes


def _parsed_set(word: str) -> tuple[str, Any]:
    key, equals, value = word.partition("=")
    if not equals:
        raise UsageError(
            f"--set {shown(word)}: expected section.key=value.", "For example: --set train.lr=0.01"
        )
    return key.strip(), parse_yaml(value, f"--set {shown(word)}")


def _coerced(key: str, value: Any, kind: Any, origin: str) -> Any:
    options = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
    if options:
        if value in options:
            return value
        expected = f"one of {', '.join(map(str, options))}"
        raise UsageError(f"{origin}: {key} is {shown(value)}; expected {expected}.")
    assert not isinstance(kind, UnionType), "settings have one type each"
    if typing.get_origin(kind) is Mapping:
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise UsageError(f"{origin}: {key} is {shown(value)}; expected a mapping of names.")
        inner = typing.get_args(kind)[1]
        return {name: _coerced(f"{key}.{name}", v, inner, origin) for name, v in value.items()}
    if typing.get_origin(kind) is tuple:
        return _coerced_list(key, value, typing.get_args(kind)[0], origin)
    try:
        if kind is float and not isinstance(value, bool):
            return float(value)  # YAML 1.1 reads 1e-3 as a string
        if kind is int and not isinstance(value, bool) and float(value) == int(value):
            return int(value)
        if kind is bool and isinstance(value, bool):
            return value
        if kind is str and isinstance(value, str | int | float | None):
            text = "" if value is None else str(value)
            if "\0" not in text:  # no path has one
                return text
    except (TypeError, ValueError, OverflowError):
        pass
    raise UsageError(f"{origin}: {key} is {shown(value)}; expected {_KIND_NAMES[kind]}.")


def _coerced_list(key: str, value: Any, kind: Any, origin: str) -> tuple[Any, ...]:
    """Return the values of a YAML list, of text with commas, or a single one."""
    if isinstance(value, str):
        value = [word.strip() for word in value.split(",")]
    values = value if isinstance(value, list | tuple) else [value]
    if not values:
        raise UsageError(f"{origin}: {key} is empty; expected at least one value.")
    return tuple(_coerced(key, item, kind, origin) for item in values)


def _check_ranges(config: Config, origin: str) -> None:
    core = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.name != "methods"}
    for section, settings in {**core, **config.methods}.items():
        for setting in dataclasses.fields(settings):
            bounds: _Range | None = setting.metadata.get("range")
            value = getattr(settings, setting.name)
            for number in value if isinstance(value, tuple) else (value,):
                if bounds is not None and not bounds.holds(number):
                    name = f"{section}.{setting.name}"
                    raise UsageError(f"{origin}: {name} is {shown(number)}; it must be {bounds}.")
