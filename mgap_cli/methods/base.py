"""The protocol of a training method: it owns the training step, and the trainer owns everything around it.

To add a method, write one file here with a subclass of `Method` whose `name` is the file's name (with `-`
for `_`). Its settings, its default values and its help text live in the same file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgap_cli.errors import UsageError
from mgap_cli.model.fusions import additive_names, load_fusion

if TYPE_CHECKING:
    import numpy as np

    from mgap_cli.config import Config
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

    contributions: the parts of an additive fusion's logits. features: the encoders' features in `loss`,
    joined over all processes. trained_start: a network that is already trained, so that the method cannot
    be the first stage.
    """

    contributions: bool = False
    features: bool = False
    trained_start: bool = False


@dataclass(frozen=True)
class RecipeStage:
    """One stage of a method's recipe.

    name: the stem of its files in the run folder. epochs: a later stage with 0 has the rest of the budget:
    after the epoch that its checkpoint holds, or of the whole budget if it is `fresh`. method: what trains
    it; empty for the recipe's own method. settings: values of that method's settings for this stage alone.
    fresh: it starts from new weights, with a learning-rate schedule of its own, and not from the stage
    before it. takes: earlier stages whose networks `Method.on_stage_start` receives; only if it is `fresh`.
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
    of this step alone, the same on every device and every process.
    """

    batch: Batch
    network: MultimodalNetwork
    generator: torch.Generator
    epoch: BudgetEpoch

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
    """What a method may do before an epoch. Every process calls the same functions in the same order.

    epoch: the stage's finished epochs. budget_epoch: the place of the epoch in the budget of all stages.
    """

    epoch: int
    budget_epoch: BudgetEpoch

    @property
    def network(self) -> MultimodalNetwork:
        """The network that is trained."""

    def scores(self, split: str = "train") -> tuple[Scores, np.ndarray]:
        """Return the scores of a split in eval mode, and the positions of its samples in the store."""

    def predictions(self, split: str = "train") -> Predictions:
        """Return the probabilities of every head and the features of a split, in eval mode."""

    def reset(self, module: nn.Module) -> None:
        """Draw new initial weights for a module and clear the optimizer's state of its parameters."""


class Method(nn.Module):
    """Base class of every training method.

    name: as on the command line, and the name of its settings' section. Settings: a frozen dataclass with
    the default values. heads: the heads that the method trains or probes, which reports show; the first
    decides which epoch is best. probes: the unimodal heads measure without training their encoders.

    What a method has to remember goes into buffers or parameters: they are saved with the model.
    """

    name: ClassVar[str] = ""
    Settings: ClassVar[type] = NoSettings
    needs: ClassVar[Needs] = Needs()
    probes: ClassVar[bool] = False

    def __init__(self, config: Config) -> None:
        """Raises UsageError if the method does not fit the network that `config` describes."""
        super().__init__()
        self.config = config
        self.settings: Any = config.method_settings(self.name)
        self.heads: tuple[str, ...] = ()
        if self.needs.contributions and not load_fusion(config.model.fusion).additive:
            raise UsageError(
                f"method {self.name} reads each modality's contribution to the logits, and fusion "
                f"{config.model.fusion} has none.",
                f"Use --fusion {' or '.join(additive_names())}.",
            )

    def build(self, network: MultimodalNetwork, samples: int) -> None:
        """Complete the method for a network and a store of `samples` rows: buffers, heads, teachers."""
        self.heads = network.head_names

    def parameter_groups(self, network: MultimodalNetwork) -> dict[str, Iterable[nn.Parameter]]:
        """Return the parameters of each optimizer, by a group name. Default: one optimizer for all."""
        return {EVERYTHING: [*network.parameters(), *self.parameters()]}

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


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the batch's mean cross-entropy, in float32 at least, whatever precision the logits came in."""
    return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), labels)


def unimodal_cross_entropy(outputs: Outputs, labels: Tensor) -> Tensor:
    """Return sum_m CE(z_m, y) over the unimodal heads."""
    first, *others = (cross_entropy(z, labels) for z in outputs.unimodal.values())
    for loss in others:
        first = first + loss
    return first
