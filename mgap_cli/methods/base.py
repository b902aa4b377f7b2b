"""The protocol of a training method: it owns the training step, and the trainer owns everything around it.

To add a method, write one file here with a subclass of `Method` whose `name` is the file's name (with `-`
for `_`). Its settings, its default values and its help text live in the same file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from mgap_cli.errors import UsageError
from mgap_cli.model.network import full_precision

if TYPE_CHECKING:
    import numpy as np
    import torch

    from mgap_cli.config import Config, SearchSpace
    from mgap_cli.data.loading.loader import Batch
    from mgap_cli.gap.scores import Scores
    from mgap_cli.model.inference import Predictions
    from mgap_cli.model.network import MultimodalNetwork, Outputs

EVERYTHING = "all"  # the name of the only group of parameters, if a method does not divide them


@dataclass(frozen=True)
class NoSettings:
    """The empty settings of a method without settings."""


@dataclass(frozen=True)
class Needs:
    """The requirements of a method.

    contributions: it needs the parts of an additive fusion's logits, which are empty for any other fusion.
    features: it needs the encoders' features in `loss`, joined over all processes. trained_start: it starts
    from a trained network, so it cannot be the first stage. pair: it needs exactly two modalities. earlier:
    it needs the networks of earlier stages of its recipe, so it cannot train a stage of `warmup` or `adapt`.
    """

    contributions: bool = False
    features: bool = False
    trained_start: bool = False
    pair: bool = False
    earlier: bool = False


@dataclass(frozen=True)
class RecipeStage:
    """One stage of a method's recipe.

    name: the stem of its files in the run folder. epochs: 0 means the rest of the budget, in a stage that
    continues a checkpoint. method: the method that trains it; empty for the recipe's own method. settings:
    values of that method's settings for this stage only. fresh: the stage starts from new weights, with its
    own learning-rate schedule, and not from the stage before it. takes: earlier stages whose networks
    `Method.on_stage_start` receives; only a `fresh` stage can have them.
    """

    name: str
    epochs: int
    method: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    fresh: bool = False
    takes: tuple[str, ...] = ()


@dataclass(frozen=True)
class BudgetEpoch:
    """An epoch's place in the budget of all stages: `index` from 0, `budget` epochs in all."""

    index: int
    budget: int


class Step(Protocol):
    """One training step, as `Method.training_step` sees it. The trainer implements it.

    batch: labels and index of the whole batch, inputs of this process's share. generator: a CPU generator
    of this step alone, the same on every device and every process. progress: i / N for step i, from 0, of the
    N steps of the epoch.
    """

    batch: Batch
    network: MultimodalNetwork
    generator: torch.Generator
    epoch: BudgetEpoch
    progress: float

    def forward(
        self,
        inputs: Mapping[str, Tensor] | None = None,
        only: Sequence[str] | None = None,
        network: MultimodalNetwork | None = None,
    ) -> Outputs:
        """Run a network and return the outputs of the whole batch, in float32.

        By default it runs the network that is trained, on the batch's inputs and all modalities. The outputs
        have `features` and `contributions` if the method's `needs` name them.
        """

    def fuse(self, features: Mapping[str, Tensor]) -> Tensor:
        """Return the fused logits (B, C) of the whole batch for features (B, D) by modality, in float32.

        The features are those of `forward`, which the method may have changed row by row: a gradient returns
        to the encoders only through its own row. `needs.features` must be set.
        """

    def backward(self, loss: Tensor) -> None:
        """Replace all gradients by those of `loss`, summed over the processes; call it once per `update`."""

    def gradients(self, losses: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Return the gradient of each loss by parameter name, summed over the processes.

        A parameter that a loss does not depend on is absent from its dictionary.
        """

    def set_gradients(self, gradients: Mapping[str, Tensor]) -> None:
        """Replace all gradients; a parameter that is absent gets no gradient and does not change."""

    def update(self, group: str | None = None) -> None:
        """Take one optimizer step, of one group of parameters or of all, if every gradient is finite."""


class EpochContext(Protocol):
    """What a method may do before and after an epoch; all processes make the same calls in the same order.

    epoch: number of finished epochs of the stage. budget_epoch: the place of the current epoch in the budget.
    """

    epoch: int
    budget_epoch: BudgetEpoch

    @property
    def network(self) -> MultimodalNetwork:
        """The network that is trained."""

    def scores(self, split: str = "train") -> tuple[Scores, np.ndarray]:
        """Return the scores of a split in eval mode, and the positions of its samples in the store."""

    def held_out_scores(self) -> tuple[Scores, np.ndarray]:
        """Return the training split's scores by heads that did not see the sample, and its positions.

        See `gap.held_out`.
        """

    def predictions(self, split: str = "train", network: MultimodalNetwork | None = None) -> Predictions:
        """Return the probabilities of every head and the features of a split, in eval mode.

        By default it runs the network that is trained. Another network must be on the same device.
        """

    def reset(self, module: nn.Module) -> None:
        """Draw new initial weights for a module and clear the optimizer's state of its parameters."""


class Method(nn.Module):
    """Base class of every training method.

    name: as on the command line, and the name of its settings' section. Settings: a frozen dataclass with
    the default values. space: the values that `mgap compare --tune` tries, by the setting's name; each
    default is one of them. heads: the heads that the method trains or probes, which reports show; the first
    decides which epoch is best. probes: the unimodal heads measure without training their encoders.

    A method keeps its state in buffers or parameters, which are saved with the model.
    """

    name: ClassVar[str] = ""
    Settings: ClassVar[type] = NoSettings
    space: ClassVar[SearchSpace] = {}
    needs: ClassVar[Needs] = Needs()
    probes: ClassVar[bool] = False

    def __init__(self, config: Config) -> None:
        """Raise UsageError if the method does not fit the network that `config` describes."""
        super().__init__()
        self.config = config
        self.settings: Any = config.method_settings(self.name)
        self.heads: tuple[str, ...] = ()

    def build(self, network: MultimodalNetwork, samples: int) -> None:
        """Complete the method for a network and a store of `samples` rows: buffers, heads, teachers.

        Raises UsageError if the method is for two modalities and the network has another number.
        """
        if self.needs.pair and len(network.encoders) != 2:
            raise UsageError(
                f"method {self.name} compares two modalities, and this store has {len(network.encoders)} "
                f"({', '.join(network.encoders)}).",
                "Use another --method, or prepare a store with two of them.",
            )
        self.heads = network.head_names

    def parameter_groups(self, network: MultimodalNetwork) -> dict[str, Iterable[nn.Parameter]]:
        """Return the parameters of each optimizer by group name; by default, one optimizer has all."""
        return {EVERYTHING: [*network.parameters(), *self.parameters()]}

    @classmethod
    def model(cls, config: Config) -> dict[str, Any]:
        """Return the model settings that the method requires, `{"model.fusion": ...}`. Default: none.

        If a method has its own decision rule, this rule is a fusion. Training, validation and every command
        that opens the checkpoint then use it, and the checkpoint's settings describe it completely.
        """
        return {}

    @classmethod
    def recipe(cls, config: Config, modalities: Sequence[str]) -> tuple[RecipeStage, ...]:
        """Return the stages of a whole training. Default: one stage, `train`, for the whole budget."""
        return (RecipeStage("train", config.train.epochs),)

    def on_stage_start(self, earlier: Mapping[str, MultimodalNetwork]) -> None:
        """Take what the stage needs from the networks of the earlier stages that its recipe names.

        earlier: those networks by stage, on the CPU. Keep what is needed in buffers, parameters or modules
        that `build` made, because a resumed stage reads these from its checkpoint.
        """

    def on_epoch_start(self, context: EpochContext) -> list[str]:
        """Prepare for the next epoch; return lines for the log."""
        return []

    def on_epoch_end(self, context: EpochContext) -> list[str]:
        """Complete the network before the epoch is validated; return lines for the log.

        context: that of the epoch which ends. What is changed here is validated, and saved as the epoch's.
        """
        return []

    def epoch_samples(self, indices: np.ndarray) -> Sequence[np.ndarray]:
        """Return the samples of the epoch that begins, in groups of positions in the store.

        indices: the stage's training samples; default: one group with these. Each group is shuffled and
        divided into batches, one group after the other. `Batch.copies` distinguishes the copies of a repeated
        sample. It is called after `on_epoch_start` and after a resumption, so the result may only depend on
        state that is saved with the model.
        """
        return [indices]

    def training_step(self, step: Step) -> None:
        """Train on one batch. Default: one forward pass, one loss, one update."""
        loss = self.loss(step.forward(), step.batch)
        step.backward(loss)
        self.edit_gradients(step)
        step.update()

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the scalar loss of a batch."""
        raise NotImplementedError

    def edit_gradients(self, step: Step) -> None:
        """Change the gradients between the backward pass and the update."""

    def epoch_record(self, epoch: BudgetEpoch) -> dict[str, Any]:
        """Return plain values to record for the epoch that ends; a resumed epoch must return the same."""
        return {}


def with_required_model(method: type[Method], config: Config) -> Config:
    """Return the settings with the model settings that a method requires.

    Raises UsageError if one of them was set to another value than the default and the required one.
    """
    required = method.model(config)
    set_now, defaults = config.flat(), type(config)().flat()
    for key, value in required.items():
        if set_now[key] not in (value, defaults[key]):
            raise UsageError(
                f"method {method.name} needs {key}={value}, and it is {set_now[key]}.",
                f"Leave {key} out, or train with another --method.",
            )
    return config.updated(required, f"method {method.name}")


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the batch's mean cross-entropy, in full precision for logits of any precision."""
    return F.cross_entropy(full_precision(logits), labels)


def kept_rows(f: Tensor, kept: Tensor) -> Tensor:
    """Return the features f (B, D) with zeros in the rows where `kept`, (B,) booleans, is false."""
    return f * kept.to(f)[:, None]


def unimodal_cross_entropy(outputs: Outputs, labels: Tensor) -> Tensor:
    """Return sum_m CE(z_m, y) over the unimodal heads."""
    first, *others = (cross_entropy(z, labels) for z in outputs.unimodal.values())
    for loss in others:
        first = first + loss
    return first


def sum_of_gradients(gradients: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the sum of gradients by parameter name; a name that is absent counts as 0."""
    total: dict[str, Tensor] = {}
    for each in gradients:
        for name, value in each.items():
            total[name] = total[name] + value if name in total else value
    return total
