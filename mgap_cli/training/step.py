"""One training step, which hides the device, the precision and the number of processes from a method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mgap_cli.model.network import MultimodalNetwork, Outputs, full_precision
from mgap_cli.processes import SMALLEST
from mgap_cli.training.compiling import compiler_errors

if TYPE_CHECKING:
    from mgap_cli.data.loading.loader import Batch
    from mgap_cli.methods.base import BudgetEpoch
    from mgap_cli.training.distributed import World
    from mgap_cli.training.optimizers import Optimizers
    from mgap_cli.training.precision import Precision
    from mgap_cli.training.step_guard import StepGuard
    from mgap_cli.training.task import Task


@dataclass(frozen=True)
class Engine:
    """The objects that all steps of a stage share.

    run: the network's forward pass, compiled or not. clip_norm: largest gradient norm; 0 turns clipping off.
    """

    task: Task
    run: Callable[..., Outputs]
    optimizers: Optimizers
    guard: StepGuard
    precision: Precision
    scaler: torch.amp.GradScaler
    world: World
    clip_norm: float


class TrainingStep:
    """One step on one batch; `methods.base.Step` describes it for methods.

    After the step: loss, the sum of the losses of this step (a scalar on the device); logits, the latest
    of every head on the batch as it is; good, whether every update was made (a boolean on the device).
    """

    def __init__(
        self,
        engine: Engine,
        batch: Batch,
        generator: torch.Generator,
        epoch: BudgetEpoch,
        progress: float = 0.0,
    ) -> None:
        self.engine, self.batch, self.generator, self.epoch = engine, batch, generator, epoch
        self.progress = progress
        self.network: MultimodalNetwork = engine.task.network
        self.logits: dict[str, Tensor] = {}
        self.loss = torch.zeros((), device=batch.labels.device)
        self.good = torch.ones((), dtype=torch.bool, device=batch.labels.device)
        self._unscaled = False

    def forward(
        self,
        inputs: Mapping[str, Tensor] | None = None,
        only: Sequence[str] | None = None,
        network: MultimodalNetwork | None = None,
    ) -> Outputs:
        """Run a network in the training's precision; return outputs of the whole batch in full precision.

        With several processes, each runs the network on its share, and the method sees the whole batch. Its
        statistics over a batch are therefore those of one process, and a smaller last share needs no
        weighting (ours).
        """
        with self.engine.precision.autocast(), compiler_errors():
            run = network or self.engine.run
            outputs = run(self.batch.inputs if inputs is None else inputs, only)
        outputs = self._whole(outputs)
        if inputs is None and network is None:
            self.logits.update({head: z.detach() for head, z in outputs.logits.items()})
        return outputs

    def fuse(self, features: Mapping[str, Tensor]) -> Tensor:
        """Return the fused logits of the whole batch for changed features of the whole batch.

        Each process fuses its share, so that the fusion's gradients add up like those of `forward`.
        """
        world, total = self.engine.world, len(self.batch.labels)
        first_rows = world.share(total)
        if first_rows.start == first_rows.stop:
            # Padding rows, which are left out of every result, as in the loader.
            first_rows = slice(0, SMALLEST)
        with self.engine.precision.autocast():
            fused = self.network.fuse({m: f[first_rows] for m, f in features.items()})
        return world.join_rows(full_precision(fused), total)

    def backward(self, loss: Tensor) -> None:
        """Replace all gradients by those of `loss`, summed over the processes."""
        engine = self.engine
        engine.optimizers.zero_gradients()
        engine.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._reduce({n: p.grad for n, p in engine.task.named_parameters() if p.grad is not None})
        self._unscale()
        self.loss = self.loss + loss.detach()

    def gradients(self, losses: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Return the gradient of each loss by parameter name, summed over the processes."""
        named = self.engine.optimizers.named_parameters()
        results = []
        for loss in losses:
            scaled = self.engine.scaler.scale(loss)
            values = torch.autograd.grad(scaled, list(named.values()), retain_graph=True, allow_unused=True)
            present = {n: g / self._scale() for n, g in zip(named, values, strict=True) if g is not None}
            self._reduce(present)
            results.append(present)
            self.loss = self.loss + loss.detach()
        return results

    def set_gradients(self, gradients: Mapping[str, Tensor]) -> None:
        """Replace all gradients; a parameter that is absent gets no gradient and does not change."""
        factor = 1.0 if self._unscaled else self._scale()
        for name, parameter in self.engine.optimizers.named_parameters().items():
            gradient = gradients.get(name)
            parameter.grad = None if gradient is None else gradient * factor
        self._unscale()

    def update(self, group: str | None = None) -> None:
        """Take one optimizer step, for one group or for all, if the loss and every gradient are finite."""
        engine = self.engine
        good = engine.guard.admit(self.loss)
        if engine.clip_norm:
            torch.nn.utils.clip_grad_norm_(engine.optimizers.parameters(group), engine.clip_norm)
        for optimizer in engine.optimizers.chosen(group):
            engine.guard.apply(optimizer, engine.scaler, good)
        if engine.scaler.is_enabled():
            engine.scaler.update()
        self._unscaled = False
        self.good = self.good & good

    def _reduce(self, gradients: Mapping[str, Tensor]) -> None:
        """Sum gradients over the processes in place.

        The network runs on a share of the batch in each process, so its gradients are summed. The modules of
        a method see the whole batch in every process, so their gradients are equal everywhere, and their mean
        is taken.
        """
        world = self.engine.world
        world.sum_tensors(list(gradients.values()))
        if world.size > 1:
            for name, gradient in gradients.items():
                if name.startswith("method."):
                    gradient.div_(world.size)

    def _scale(self) -> float:
        return float(self.engine.scaler.get_scale())

    def _unscale(self) -> None:
        if not self._unscaled:
            for optimizer in self.engine.optimizers.by_group.values():
                if any(p.grad is not None for of in optimizer.param_groups for p in of["params"]):
                    self.engine.scaler.unscale_(optimizer)
        self._unscaled = True

    def _whole(self, outputs: Outputs) -> Outputs:
        """Return the outputs of the whole batch in full precision, in which losses are computed."""
        world, needs = self.engine.world, self.engine.task.method.needs
        parts = (
            outputs.logits,
            outputs.features if needs.features else {},
            outputs.contributions if needs.contributions else {},
        )
        tensors = [full_precision(tensor) for part in parts for tensor in part.values()]
        if world.size > 1:  # all of them differ in their width only, so one exchange is enough
            rows = world.join_rows(torch.cat(tensors, dim=1), len(self.batch.labels))
            tensors = list(torch.split(rows, [tensor.shape[1] for tensor in tensors], dim=1))
        whole = iter(tensors)
        return Outputs(*({name: next(whole) for name in part} for part in parts))
