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

EVERYTHING = "all"  # the one group of parameters of a method that does not divide them


@dataclass(frozen=True)
class NoSettings:
    """The settings of a method that has none."""


@dataclass(frozen=True)
class Needs:
    """What a method requires.

    contributions: the parts of an additive fusion's logits; empty for any other fusion. features: the
    encoders' features in `loss`, joined over all processes. trained_start: a network that is already trained,
    so that the method cannot be the first stage. pair: exactly two modalities. earlier: the networks of
    earlier stages of its recipe, so that it cannot train a stage of `warmup` or `adapt`.
    """

    contributions: bool = False
    features: bool = False
    trained_start: bool = False
    pair: bool = False
    earlier: bool = False


@dataclass(frozen=True)
class RecipeStage:
    """One stage of a method's recipe.

    name: the stem of its files in the run folder. epochs: a stage that continues with 0 has the rest of the
    budget after the epoch that its checkpoint holds. method: what trains it; empty for the recipe's own
    method. settings: values of that method's settings for this stage alone. fresh: it starts from new
    weights, with a learning-rate schedule of its own, and not from the stage before it. takes: earlier stages
    whose networks `Method.on_stage_start` receives; only a `fresh` stage has them.
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
    """One training step, as `Method.training_step` sees it. Implemented by the trainer.

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

        Default: the network that is trained, on the batch's inputs and all modalities. `features` and
        `contributions` are there if the method's `needs` name them.
        """

    def fuse(self, features: Mapping[str, Tensor]) -> Tensor:
        """Return the fused logits (B, C) of the whole batch for features (B, D) by modality, in float32.

        For features of `forward` that the method has changed, each row by itself: a gradient returns to the
        encoders only through the row that it comes from. `needs.features` must be set.
        """

    def backward(self, loss: Tensor) -> None:
        """Replace all gradients by those of `loss`, summed over the processes. Once per `update`."""

    def gradients(self, losses: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Return the gradient of each loss by parameter name, summed over the processes.

        A parameter that a loss does not depend on is absent from its dictionary.
        """

    def set_gradients(self, gradients: Mapping[str, Tensor]) -> None:
        """Replace all gradients; a parameter that is absent gets none and does not change."""

    def update(self, group: str | None = None) -> None:
        """Take one optimizer step, of one group of parameters or of all, if every gradient is finite."""


class EpochContext(Protocol):
    """What a method may do before and after an epoch. Every process calls the same functions in one order.

    epoch: the stage's finished epochs. budget_epoch: the place in the budget of the epoch at hand.
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

        Default: of the network that is trained. Another one must be on the same device.
        """

    def reset(self, module: nn.Module) -> None:
        """Draw new initial weights for a module and clear the optimizer's state of its parameters."""


class Method(nn.Module):
    """Base class of every training method.

    name: as on the command line, and the name of its settings' section. Settings: a frozen dataclass with
    the default values. space: which values `mgap compare --tune` tries, by the setting's name; the defaults
    lie inside. heads: the heads that the method trains or probes, which reports show; the first
    decides which epoch is best. probes: the unimodal heads measure without training their encoders.

    What a method has to remember goes into buffers or parameters: they are saved with the model.
    """

    name: ClassVar[str] = ""
    Settings: ClassVar[type] = NoSettings
    space: ClassVar[SearchSpace] = {}
    needs: ClassVar[Needs] = Needs()
    probes: ClassVar[bool] = False

    def __init__(self, config: Config) -> None:
        """Raises UsageError if the method does not fit the network that `config` describes."""
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
        """Return the parameters of each optimizer, by a group name. Default: one optimizer for all."""
        return {EVERYTHING: [*network.parameters(), *self.parameters()]}

    @classmethod
    def model(cls, config: Config) -> dict[str, Any]:
        """Return the model settings that the method requires, `{"model.fusion": ...}`. Default: none.

        A decision rule of the method's own is a fusion: training, validation and every command that opens
        the checkpoint then use it, and the checkpoint's settings alone describe it.
        """
        return {}

    @classmethod
    def recipe(cls, config: Config, modalities: Sequence[str]) -> tuple[RecipeStage, ...]:
        """Return the stages of a whole training. Default: one stage, `train`, for the whole budget."""
        return (RecipeStage("train", config.train.epochs),)

    def on_stage_start(self, earlier: Mapping[str, MultimodalNetwork]) -> None:
        """Take what the stage needs from the networks of the earlier stages that its recipe names.

        earlier: those networks by stage, on the CPU. What is kept goes into buffers, parameters or modules
        that `build` made: a resumed stage reads them from its checkpoint.
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
        divided into batches, one group after the other. A sample that repeats is told apart by
        `Batch.copies`. Called after `on_epoch_start`, and after a resumption: what it returns may depend on
        what is saved with the model only.
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
        """Return plain values to keep for the epoch that ends; a resumed epoch must return the same."""
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
    """Return the batch's mean cross-entropy, in full precision whatever precision the logits came in."""
    return F.cross_entropy(full_precision(logits), labels)


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
