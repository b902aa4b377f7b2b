"""Every setting of a run with its default, as frozen dataclasses.

A method's own settings are in the method's file. A preset may change a default for one data set.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import yaml

from mgap_cli.config.method_sections import method_section, method_section_names
from mgap_cli.config.ranges import (
    LARGEST_COUNT,
    at_least_zero,
    bounded,
    count,
    levels,
    named,
    positive,
    seed,
    share,
)
from mgap_cli.config.values import check_ranges, coerced, gathered, known_names
from mgap_cli.errors import UsageError, did_you_mean
from mgap_cli.registry import Choices
from mgap_cli.yaml_reader import shortened

UnimodalLogits = Literal["heads", "shared", "decomposed"]
OptimizerName = Literal["sgd", "adamw"]
ScheduleName = Literal["step", "cosine", "constant"]
Selection = Literal["val", "last", "test"]
GapKind = Literal["absolute", "signed"]
GapScores = Literal["pass", "held-out"]
GapScale = Literal["log", "probability"]  # this and the next three are choices of the adaptive loss
StopGradient = Literal["leading", "none"]
Shift = Literal["squared", "kl"]
ScoreSource = Literal["pass", "online"]
PrecisionName = Literal["auto", "fp32", "bf16", "fp16"]
Float32Name = Literal["auto", "tf32", "ieee"]
AudioName = Literal["stft", "fbank"]
DigitsVariant = Literal["late", "memorised", "uninformative", "degraded"]
LoggerName = Literal["none", "tensorboard", "wandb", "trackio"]
ENCODERS = Choices("mgap_cli.model.encoders", without=("base", "residual", "torchvision_weights"))
FUSIONS = Choices("mgap_cli.model.fusions", without=("base",))
RULES = Choices("mgap_cli.evaluation.decision_rules", without=("base",))


SMALLEST_CROP = 0.05  # shares of the frame; smaller parts would be read out of very large frames


@dataclass(frozen=True)
class DataConfig:
    """The protocol: what `prepare` stores for each clip. The defaults are the literature's for CREMA-D."""

    frames: int = count(1, 10_000)  # frames per clip, at uniform positions in time
    candidates: int = bounded(0, 0, 10_000)  # frames stored, of which each training epoch draws data.frames
    crop: tuple[float, ...] = levels(0, 0, 1, 1, high=1, open_low=False)  # x, y, w, h in shares of the frame
    frame_size: int = count(256, 16_384)  # stored height and width, pixels
    audio: AudioName = "stft"  # what is stored of the sound: log |STFT|, or Kaldi's log mel filter banks
    sample_rate: int = count(22_050, 1_000_000)  # sample rate of the sound, Hz; one channel
    seconds: float = bounded(3.0, 0, 86_400, open_low=True)  # length of the sound, which is repeated or cut
    n_fft: int = count(512, 2**20)  # samples per window of the spectrogram
    hop: int = count(353, 2**20)  # samples between spectrogram columns: 257 x 188 at the defaults
    mel_bins: int = count(128, 1_000)  # filters of data.audio=fbank, one column per 10 ms
    val_share: float = bounded(0.1, 0, 0.9)  # share of train for validation, if no split is given
    seed: int = seed(0)  # seed of splits that mgap draws, and of the embedded data set

    def __post_init__(self) -> None:
        """Raise UsageError for a crop that is not a part of the frame, and for too few candidates."""
        if 0 < self.candidates < self.frames:
            raise UsageError(
                f"data.candidates is {self.candidates}: less than data.frames, {self.frames}.",
                "Store at least as many frames as the network sees, or set it to 0.",
            )
        if len(self.crop) != 4 or min(self.crop[2:]) < SMALLEST_CROP or max(self._ends()) > 1 + 1e-9:
            given = ",".join(f"{part:g}" for part in self.crop)
            raise UsageError(
                f"data.crop is {given}: not a part of the frame with sides of at least {SMALLEST_CROP:g}.",
                "Give x,y,w,h in shares of the frame, for example --set data.crop=0.3,0.6,0.4,0.3",
            )

    @property
    def stored_frames(self) -> int:
        """Return the number of frames per clip in the store."""
        return self.candidates or self.frames

    def _ends(self) -> tuple[float, float]:
        x, y, width, height = self.crop
        return x + width, y + height


@dataclass(frozen=True)
class ModelConfig:
    encoder: str = named("resnet18", ENCODERS)  # encoder of each modality that it accepts
    encoders: Mapping[str, str] = field(  # {modality: encoder}, for single modalities
        default_factory=dict, metadata={"choices": ENCODERS}
    )
    width: int = count(64, 16_384)  # channels of the first stage; 64 is torchvision's
    hidden: int = count(128, 16_384)  # width of the encoders mlp, temporal and motion
    fusion: str = named("concat", FUSIONS)
    unimodal: UnimodalLogits = "heads"  # source of unimodal logits: own heads, one shared, or the fusion
    audio_weights: str = ""  # file of a torchvision state dict from which the audio encoder starts
    visual_weights: str = ""  # the same for the visual encoder

    def pretrained(self) -> tuple[str, ...]:
        """Return the modalities whose encoders start from a file of weights."""
        files = {"audio": self.audio_weights, "visual": self.visual_weights}
        return tuple(name for name, file in files.items() if file)


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
    pretrained_lr: float = at_least_zero(1.0)  # factor of lr for encoders that start from a file of weights
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
    scores: GapScores = "pass"  # of train: a pass of the network, or linear heads that did not see the sample
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
    relabel_confidence: float = share(0.9)  # `--relabel`: probability that each head gives another class
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
    rule: str = named("fused", RULES)  # decision rule whose predictions are reported
    snr_db: tuple[float, ...] = levels(20, 10, 5, 0, -5, low=-100, high=100, open_low=False)
    frame_noise: tuple[float, ...] = levels(0.05, 0.1, 0.2, 0.4)
    occlusion: tuple[float, ...] = levels(0.1, 0.25, 0.5, 0.75, high=1)  # covered shares of the frame's area
    seed: int = seed(0)  # seed of bootstrap, noise and places of occlusion


@dataclass(frozen=True)
class RuntimeConfig:
    """Where and how a run computes; it may change between a run and its resumption."""

    device: str = "auto"  # where to compute: auto, cpu, cuda, cuda:N or mps
    threads: str = "auto"  # CPU threads: a number; auto: training takes the cores idle at the start
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
        settings = method_section(name)
        if settings is None:
            raise UsageError(f"unknown method {name!r}.")
        return settings()

    def with_methods(self, names: Iterable[str]) -> Config:
        """Return a copy that includes the settings of these methods, also where they are defaults."""
        stated = {name: self.method_settings(name) for name in names}
        return dataclasses.replace(self, methods={**self.methods, **stated})

    def core(self) -> dict[str, Any]:
        """Return `{section: settings}` without those of methods."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "methods"}

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return `{section: {key: value}}`, plain values only, without methods that have no settings."""
        stated = {name: s for name, s in sorted(self.methods.items()) if dataclasses.fields(s)}
        return {name: dataclasses.asdict(section) for name, section in {**self.core(), **stated}.items()}

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    def epochs_after_warmup(self) -> int:
        """Return `adapt.epochs`, or the epochs that the warm-up leaves of the budget.

        Raises UsageError if it leaves none.
        """
        rest = self.adapt.epochs or self.train.epochs - self.warmup.epochs
        if rest < 1:
            raise UsageError(
                f"The budget of {self.train.epochs} epochs (train.epochs) leaves none after the warm-up of "
                f"{self.warmup.epochs} (warmup.epochs).",
                "Give more --epochs, or a shorter warm-up, such as "
                f"--set warmup.epochs={max(1, self.train.epochs // 3)}.",
            )
        return rest

    def flat(self) -> dict[str, Any]:
        """Return `{"section.key": value}`."""
        return {f"{s}.{k}": v for s, keys in self.to_dict().items() for k, v in keys.items()}

    def updated(self, changes: Mapping[str, Any], origin: str) -> Config:
        """Return a copy with `{"section.key": value}` applied.

        Raises UsageError, naming `origin`, for an unknown key (with a suggestion) or an invalid value.
        """
        stated = {key.partition(".")[0] for key in changes} - {f.name for f in dataclasses.fields(self)}
        whole = self.with_methods(sorted(name for name in stated if method_section(name)))
        sections: dict[str, dict[str, Any]] = {}
        known = whole.flat()
        for key, value in gathered(changes, known).items():
            if key not in known:
                known = whole.with_methods(method_section_names()).flat()
                hint = did_you_mean(key, known, f"Known keys: {', '.join(known)}.")
                raise UsageError(f"{origin}: unknown setting {shortened(key)}.", hint)
            section, name = key.split(".")
            read = coerced(key, value, _types(section)[name], origin)
            sections.setdefault(section, {})[name] = known_names(key, read, _metadata(section, name), origin)
        methods, core = dict(whole.methods), {}
        for section, values in sections.items():
            if section in methods:
                methods[section] = dataclasses.replace(methods[section], **values)
            else:
                core[section] = dataclasses.replace(getattr(self, section), **values)
        new = dataclasses.replace(whole, methods=methods, **core)
        check_ranges({**new.core(), **new.methods}, origin)
        return new


@cache
def _types(section: str) -> dict[str, Any]:
    settings = method_section(section) or typing.get_type_hints(Config)[section]
    return typing.get_type_hints(settings)


def _metadata(section: str, name: str) -> Mapping[str, Any]:
    settings = method_section(section) or typing.get_type_hints(Config)[section]
    return next(field.metadata for field in dataclasses.fields(settings) if field.name == name)
