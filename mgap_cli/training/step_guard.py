"""Keep failed steps out of the weights, and describe what failed in one or two lines.

A step is bad if its loss or a gradient is not finite. It changes nothing: neither the weights nor the
optimizer's memory nor the running statistics of the batch norms, which a single NaN would make useless.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from mgap_cli.errors import MgapError, UsageError

# Words in the errors of the CPU's allocator, of MPS, and of oneDNN, which gives no reason.
_NO_MEMORY = ("can't allocate memory", "out of memory", "could not create a", "could not execute a primitive")
_NOT_DETERMINISTIC = " does not have a deterministic implementation"

if TYPE_CHECKING:
    from mgap_cli.training.task import Task


class TrainingPosition(NamedTuple):
    """The position in the training: `epoch` and `step` count from 1."""

    stage: str
    epoch: int
    step: int
    lr: float


class StepGuard:
    """Checks every update of a task's weights, and ends the training after `limit` bad ones in a row.

    Its state stays on the device: `row`, bad updates in a row; `loss`, the latest; `norms`, the gradient
    norms of the last good update, in the order of `modules`.
    """

    def __init__(self, task: Task, limit: int) -> None:
        self.task, self.limit = task, limit
        network = task.network
        modules = {
            **{f"{m} encoder": list(encoder.parameters()) for m, encoder in network.encoders.items()},
            "fusion": list(network.fusion.parameters()),
            "heads": list(network.heads.parameters()),
            "method": list(task.method.parameters()),
        }
        self.modules = {module: parameters for module, parameters in modules.items() if parameters}
        self.buffers = [b for b in network.buffers() if b.is_floating_point()]
        device = next(network.parameters()).device
        self.row = torch.zeros((), dtype=torch.int64, device=device)
        self.loss = torch.zeros((), device=device)
        self.norms = torch.zeros(len(self.modules), device=device)
        self.remember()

    def remember(self) -> None:
        """Save a copy of the running statistics, to go back to after a bad step."""
        self.statistics = self._flat_statistics()

    def admit(self, loss: Tensor) -> Tensor:
        """Return a boolean scalar: whether the step is good, whose gradients are set (and not scaled).

        Nothing is read back to the host. After a bad step the running statistics are those from before it.
        """
        loss = loss.detach().float()
        norms = torch.stack([_norm(group, loss) for group in self.modules.values()])
        good = torch.isfinite(loss) & torch.isfinite(norms).all()
        self.row = torch.where(good, 0, self.row + 1)
        self.norms = torch.where(good, norms, self.norms)
        self.loss = loss
        if self.buffers:
            self.statistics = torch.where(good, self._flat_statistics(), self.statistics)
            pieces = torch.split(self.statistics, [b.numel() for b in self.buffers])
            shaped = [piece.view_as(b) for piece, b in zip(pieces, self.buffers, strict=True)]
            torch._foreach_copy_(self.buffers, shaped)
        return good

    def apply(self, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, good: Tensor) -> None:
        """Take the optimizer's step if it is `good`; where possible, do not wait for the device."""
        if scaler.is_enabled():
            _begin_momentum(optimizer)
            scaler.step(optimizer)  # leaves out a step whose gradients overflowed
        elif optimizer.defaults.get("fused"):
            _begin_momentum(optimizer)
            optimizer.found_inf = (~good).float()  # type: ignore[attr-defined]  # as GradScaler passes it on
            optimizer.step()
        elif good:
            optimizer.step()

    def check(self, position: TrainingPosition) -> None:
        """Raise MgapError if the last `limit` steps were all bad. This waits for a GPU."""
        row = int(self.row)
        if row >= self.limit:
            loss = self.loss.item()
            what = "the gradients are not finite" if math.isfinite(loss) else f"the loss is {loss}"
            raise self.diverged(f"{what} for {row} steps in a row", position)

    def require_finite(self, position: TrainingPosition) -> None:
        """Raise MgapError if a weight or a running statistic is not finite: such a state is not saved."""
        values = [p.detach() for p in self.task.parameters()] + self.buffers
        if not bool(torch.stack([torch.isfinite(v).all() for v in values]).all()):
            raise self.diverged("the weights are not finite", position)

    def diverged(self, what: str, position: TrainingPosition) -> MgapError:
        """Return the error for `what`, with where it happened and each module's gradient norm."""
        norms = sorted(zip(self.norms.tolist(), self.modules, strict=True), reverse=True)
        known = "gradient norms of the last good step, largest first: "
        known += ", ".join(f"{module} {norm:.2g}" for norm, module in norms)
        return MgapError(
            f"{position.stage}: {what} (epoch {position.epoch}, step {position.step}, lr {position.lr:.3g}; "
            f"{known if norms[0][0] else 'no step was good'}).",
            "Try a lower --lr or --clip-norm 1; the last good checkpoint is kept.",
        )

    def _flat_statistics(self) -> Tensor:
        return torch.cat([b.flatten() for b in self.buffers]) if self.buffers else torch.zeros(0)


def _norm(parameters: Sequence[nn.Parameter], like: Tensor) -> Tensor:
    gradients = [p.grad for p in parameters if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients).float() if gradients else torch.zeros_like(like)


def _begin_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Give SGD momentum buffers of zero, which do not change its first step.

    The fused form of SGD leaves the buffers uninitialised if the very first step is skipped.
    """
    if isinstance(optimizer, torch.optim.SGD) and not optimizer.state and optimizer.defaults["momentum"]:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


@contextmanager
def explained(device: torch.device, option: str, size: int) -> Iterator[None]:
    """Turn two errors of PyTorch within the block into a MgapError.

    The first is memory that runs out: the message names the `option` to set to half of the batch's `size`.
    The second is an operation that --deterministic does not allow.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        words = str(error)
        if _NOT_DETERMINISTIC in words:
            operation = words.partition(_NOT_DETERMINISTIC)[0].strip()
            raise UsageError(
                f"--deterministic: {operation} has no deterministic form on {device}.",
                "Train without --deterministic, or on another --device.",
            ) from error
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and not any(
            sign in words for sign in _NO_MEMORY
        ):
            raise
        memory = "the GPU" if device.type != "cpu" else "the machine"
        raise MgapError(
            f"{memory} ran out of memory with a batch of {size} on {device}.",
            f"Try {option}{size // 2}." if size > 1 else "Take a smaller network or smaller frames.",
        ) from error
