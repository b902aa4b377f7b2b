"""Several processes that train or evaluate as one: their exchanges, and how they end together.

torchrun (or any launcher that sets the same environment) starts the processes; each has its own device and
computes its share of every batch. Decisions for all processes, such as whether to stop, go over gloo on the
CPU, so that they do not wait for a GPU. Gradients and logits go over the device's own backend.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from mgap_cli import processes
from mgap_cli.data.loading.loader import Loader
from mgap_cli.errors import ExitCode, MgapError, UsageError
from mgap_cli.model.inference import Predictions, predict
from mgap_cli.model.network import MultimodalNetwork
from mgap_cli.output import Output
from mgap_cli.runs.lock import run_lock
from mgap_cli.signals import ignore_signals
from mgap_cli.stats.arrays import IntArray
from mgap_cli.training.device import choose_device

_POLL_SECONDS = 1.0  # how often a process asks whether another one has failed
_GRACE_SECONDS = 5.0  # how long it may then stay in an exchange that will never end
_TELL_SECONDS = 10.0  # how long it waits for the process that prints the message
_STORE_SECONDS = 10.0
# Words in the errors of gloo and NCCL when the other process has ended.
_LOST = ("closed by peer", "reset by peer", "broken pipe", "gloo", "nccl", "timed out", "connection refused")


@dataclass(frozen=True)
class World:
    """The processes that share the work. Every method but the properties must be called by all of them.

    rank: this process's number, from 0. size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, the only one that writes files and prints."""
        return self.rank == 0

    def share(self, total: int) -> slice:
        """Return this process's rows of `total`; empty if there are fewer rows than processes."""
        return processes.shares(total, self.size)[self.rank]

    def max(self, value: int) -> int:
        """Return the largest of the processes' values; a flag of one process is then set for all."""
        if self.size == 1:
            return value
        largest = torch.tensor(value, dtype=torch.int64)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def barrier(self) -> None:
        """Wait until every process has reached this call."""
        self.max(0)

    def require_same(self, value: int, what: str) -> None:
        """Raise MgapError unless all processes found the same `value` in their file system."""
        if self.size > 1 and (self.max(value), -self.max(-value)) != (value, value):
            raise MgapError(
                f"the processes see different files: {what} is not the same for all.",
                "The run folder must lie on a file system that every machine shares.",
            )

    def join_rows(self, rows: Tensor, total: int) -> Tensor:
        """Return the rows of all processes, (total, K), in the batch's order; `rows` (b, K) are of this
        process.

        The gradient flows into this process's own rows only. The sum over the processes is then the gradient
        of a loss that is computed from all rows. A process without rows takes part with gradients of 0.
        """
        if self.size == 1:
            return rows
        shares = processes.shares(total, self.size)
        counts = [s.stop - s.start for s in shares]
        share = rows[: counts[self.rank]]
        padded = rows.new_zeros((max(counts), *rows.shape[1:]))
        padded[: len(share)] = share.detach()
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        pieces = [share if r == self.rank else parts[r][:n] for r, n in enumerate(counts)]
        whole = torch.cat(pieces)
        return whole if len(share) else whole + 0 * rows.sum()

    def sum_tensors(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over the processes, in one exchange."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        pieces = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, piece in zip(tensors, pieces, strict=True):
            tensor.copy_(piece.view_as(tensor))

    def join_arrays(self, array: npt.NDArray[np.generic], total: int) -> npt.NDArray[np.generic]:
        """Return the rows of an array of all processes, (total, ...), in order and unchanged to the bit."""
        if self.size == 1:
            return array
        return self.join_rows(torch.from_numpy(np.ascontiguousarray(array)), total).numpy()

    def broadcast_buffers(self, module: nn.Module) -> None:
        """Give every process the main process's buffers: the statistics of batch norm and of the method."""
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)


@cache
def join(device: torch.device) -> World:
    """Return the world that this process belongs to, connecting to it the first time.

    Raises MgapError if the others cannot be reached.
    """
    if processes.size() == 1:
        return World()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    except (ValueError, RuntimeError) as error:
        raise MgapError(
            f"the other processes cannot be reached ({' '.join(str(error).split())}).",
            "Start all of them with torchrun, with one rendezvous.",
        ) from error
    atexit.register(dist.destroy_process_group)
    _watch_for_failures()
    return World(processes.rank(), processes.size())


@contextmanager
def writing(run: Path, device: str, sink: Output) -> Iterator[None]:
    """Hold the lock of a run folder for a command that writes there; see `runs.lock.run_lock`.

    device: the setting `runtime.device`. With several processes, only the main process takes the lock. If it
    cannot, it raises the error, and the other processes end with its exit code.
    """
    world = World()
    if processes.size() > 1:
        world = join(choose_device(device, Output(quiet=True)))
    with ExitStack() as stack:
        refused = None
        try:
            stack.enter_context(run_lock(run, sink))
        except MgapError as error:
            refused = error
        code = world.max(refused.exit_code if refused else 0)
        if refused:
            raise refused
        if code:
            sys.exit(code)
        yield


def share_batch_norm(module: nn.Module, device: torch.device, world: World) -> None:
    """Compute batch norm's statistics over the whole batch. UsageError on a CPU, where PyTorch cannot."""
    if world.size == 1:
        return  # they are
    if device.type != "cuda":
        raise UsageError(
            f"--sync-bn needs one GPU per process, and the device is {device}.", "Train without --sync-bn."
        )
    nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]


def predict_together(
    network: MultimodalNetwork,
    load: Callable[[IntArray], Loader],
    indices: IntArray,
    world: World,
    features: bool = False,
) -> Predictions:
    """Predict for the samples at `indices`, each process for its share; every process gets all, in order.

    load: returns the loader for given indices. features: whether to return the encoders' features too.
    """
    share = indices[world.share(len(indices))]
    scored = predict(network, load(share if len(share) else indices[:1]).ordered(), features)

    def joined(array: Any) -> Any:
        return world.join_arrays(array, len(indices))

    return Predictions(
        index=joined(scored.index),
        labels=joined(scored.labels),
        probabilities={head: joined(p) for head, p in scored.probabilities.items()},
        features={modality: joined(f) for modality, f in scored.features.items()},
    )


def _watch_for_failures() -> None:
    """End this process soon after another one has failed, even if this one hangs in an exchange with it."""
    done = threading.Event()

    def watch() -> None:
        with suppress(RuntimeError):  # the launcher itself has ended
            store = _store()
            while not done.wait(_POLL_SECONDS):
                if store.check(["failed"]):
                    if not done.wait(_GRACE_SECONDS):
                        os._exit(ExitCode.FAILED)
                    return

    thread = threading.Thread(target=watch, name="mgap-watch", daemon=True)
    thread.start()

    def leave_off() -> None:
        done.set()
        thread.join(_POLL_SECONDS)

    atexit.register(leave_off)


def end_together(tell: Callable[[], None] | None, code: int) -> NoReturn:
    """End this failed process, and with it all others. The first process that fails prints the reason.

    The others are silent: they failed for the same reason, or because this one ended. Without `tell`, the
    main process has already said why.
    """
    ignore_signals()
    try:
        store = _store()
        if processes.is_main() if tell is None else store.add("failed", 1) == 1:
            if tell:
                tell()
            store.set("told", "yes")
        else:
            # The launcher kills all processes when the first one ends, so print the message before that.
            store.wait(["told"], timedelta(seconds=_TELL_SECONDS))
    except (RuntimeError, ValueError, KeyError):  # without a store, all processes print
        if tell:
            tell()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)  # in NCCL, a normal exit may wait for processes that have ended


def lost(error: BaseException) -> MgapError | None:
    """Return the message for an error that shows that another process ended; None for any other error."""
    words = str(error).lower()
    if not isinstance(error, RuntimeError) or not any(sign in words for sign in _LOST):
        return None
    return MgapError(
        f"process {processes.rank()} of {processes.size()} lost another process, which ended or hangs.",
        "torchrun's report below says which. Run the same command again: it continues from the last save.",
    )


@cache
def _store() -> PrefixStore:
    """Connect to the launcher's key-value store, under a name that is new after each restart."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    timeout = timedelta(seconds=_STORE_SECONDS)
    client = TCPStore(host, port, is_master=False, timeout=timeout, wait_for_workers=False)
    return PrefixStore(f"mgap/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", client)
