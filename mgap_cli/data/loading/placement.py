"""The place of a store's samples during training, and the way of a batch to the device.

`device`: all samples are on the GPU and are gathered there. `memory`: all are in this process's memory.
`map`: they are on disk, in the system's page cache. Batches are bit for bit the same from each place; only
the time differs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from mgap_cli import processes
from mgap_cli.stats.arrays import IntArray

if TYPE_CHECKING:
    from mgap_cli.config import RuntimeConfig
    from mgap_cli.data.store import Store
    from mgap_cli.output import Output

Location = Literal["device", "memory", "map"]

AHEAD = 2  # number of batches that are gathered in advance
_DTYPES = {"uint8": torch.uint8, "float16": torch.float16, "float32": torch.float32}
_CHUNK = 1 << 26  # bytes copied to the GPU at a time


Raw = dict[str, Tensor]  # a batch on the device, by modality and as the store has it


class Samples:
    """The samples of a store, from which batches are gathered by position."""

    def __init__(self, store: Store, device: torch.device, location: Location = "map") -> None:
        self.device, self.location, self.names = device, location, tuple(store.arrays)
        self.arrays: tuple[np.ndarray, ...] = tuple(store.arrays.values())
        self.tensors: tuple[Tensor, ...] = ()
        if location == "device":
            self.tensors = tuple(_on_device(array, device) for array in self.arrays)
        elif location == "memory":
            self.arrays = tuple(np.array(array) for array in self.arrays)

    def gather(self, batches: Iterable[IntArray]) -> Generator[Raw, None, None]:
        """Yield the samples at each batch of positions, in order.

        If the samples are on the host, and the disk or a GPU can cause a wait, another thread gathers the
        next batches.
        """
        if self.location == "device":
            for chosen in batches:
                index = send(torch.from_numpy(chosen), self.device)
                yield self._named([tensor.index_select(0, index) for tensor in self.tensors])
        elif self.location == "memory" and self.device.type == "cpu":
            for chosen in batches:
                yield self._sent(self._gathered(chosen))
        else:
            for gathered in self._ahead(batches):
                yield self._sent(gathered)

    def _ahead(self, batches: Iterable[IntArray]) -> Iterator[list[Tensor]]:
        waiting: deque[Future[list[Tensor]]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="mgap-gather") as pool:
            try:
                for chosen in batches:
                    waiting.append(pool.submit(self._gathered, chosen))
                    if len(waiting) > AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:  # the caller may leave an epoch at any step
                for future in waiting:
                    future.cancel()

    def _gathered(self, chosen: IntArray) -> list[Tensor]:
        """Return copies in host memory; pinned, if a GPU will fetch them."""
        parts = []
        for array in self.arrays:
            dtype = _DTYPES[array.dtype.name]
            shape = (len(chosen), *array.shape[1:])
            part = torch.empty(shape, dtype=dtype, pin_memory=self.device.type == "cuda")
            np.take(array, chosen, axis=0, out=part.numpy(), mode="clip")  # `raise` would copy twice
            parts.append(part)
        return parts

    def _sent(self, parts: list[Tensor]) -> Raw:
        return self._named([part.to(self.device, non_blocking=self.device.type == "cuda") for part in parts])

    def _named(self, parts: list[Tensor]) -> Raw:
        return dict(zip(self.names, parts, strict=True))


def place_samples(store: Store, device: torch.device, config: RuntimeConfig, sink: Output) -> Samples:
    """Choose the place of the store's samples, move them there, and log the choice with its reason.

    They go to the GPU if they need at most `gpu_share` of its free memory. Otherwise they go to memory if all
    processes of this machine together need at most `memory_share` of the available memory. Otherwise they
    stay on disk.
    """
    size = sum(array.nbytes for array in store.arrays.values())
    location: Location = "map"
    why = []
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        fits = size <= config.gpu_share * free
        why.append(_compared(size, config.gpu_share, free, "the GPU's free memory"))
        location = "device" if fits else location
    if location == "map":
        available = available_memory()
        sharing = processes.local_size()
        what = "available memory" if sharing == 1 else f"available memory, for {sharing} processes"
        why.append(_compared(size * sharing, config.memory_share, available, what))
        location = "memory" if size * sharing <= config.memory_share * available else location
    described = {"device": f"on {device}", "memory": "in memory", "map": "on disk, memory-mapped"}[location]
    sink.log(f"samples: {described} ({'; '.join(why)})")
    return Samples(store, device, location)


def available_memory() -> int:
    """Return the bytes of memory that this process may still use; 0 if the system does not report it."""
    limits = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        limits += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        return 0
    try:  # the limit of a container or a batch system
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::/"):
                group = Path("/sys/fs/cgroup") / line.removeprefix("0::/")
                limits += [_left(folder) for folder in (group, *group.parents) if _is_limited(folder)]
    except (OSError, ValueError):
        pass
    return max(0, min(limits, default=0))


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the CPU to the device; to a GPU through pinned memory and without waiting."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _on_device(array: np.ndarray, device: torch.device) -> Tensor:
    """Copy in pieces, so that the host never has all of it in memory."""
    dtype = _DTYPES[array.dtype.name]
    whole = torch.empty(array.shape, dtype=dtype, device=device)
    rows = max(1, _CHUNK // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        whole[start : start + rows] = torch.from_numpy(np.array(array[start : start + rows]))
    return whole


def _is_limited(folder: Path) -> bool:
    file = folder / "memory.max"
    return file.is_file() and file.read_text().strip() != "max"


def _left(folder: Path) -> int:
    """Return the memory that a control group may still use; its page cache counts as free."""
    limit, used = (int((folder / name).read_text()) for name in ("memory.max", "memory.current"))
    stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return limit - used + int(stat.get("inactive_file", 0))


def _compared(size: int, share: float, of: int, what: str) -> str:
    sign = "within" if size <= share * of else "over"
    return f"{size / 1e9:.2g} GB, {sign} {share:.0%} of {of / 1e9:.2g} GB of {what}"
