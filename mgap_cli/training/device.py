"""Choose the device, its float32 multiplication and determinism, and log the reason for each choice."""

from __future__ import annotations

import os

import torch

from mgap_cli import processes
from mgap_cli.config import RuntimeConfig
from mgap_cli.errors import UsageError
from mgap_cli.output import Output
from mgap_cli.training.threads import choose_threads, use_threads


def choose_device(wanted: str, sink: Output) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda`, `cuda:N` or `mps`, logging the choice and its reason.

    Raises UsageError for a device that does not exist: an explicit request never falls back.
    """
    many = processes.size() > 1
    if wanted == "auto":
        if torch.cuda.is_available():
            device, why = torch.device("cuda"), "auto: CUDA is available"
        elif torch.backends.mps.is_available() and not many:
            device, why = torch.device("mps"), "auto: no CUDA, but MPS is available"
        else:
            device, why = torch.device("cpu"), "auto: neither CUDA nor MPS is available"
    else:
        device, why = _named(wanted), "as asked"
    if many:
        device = _of_this_process(device, wanted)
    name = f"{torch.cuda.get_device_name(device)}; " if device.type == "cuda" else ""
    sink.log(f"device: {device} ({name}{why})")
    return device


def _of_this_process(device: torch.device, wanted: str) -> torch.device:
    """Return the device of this process among many: the CPU for all, or one GPU for each."""
    count = f"{processes.size()} processes"
    if device.type == "mps" or (device.type == "cuda" and device.index is not None):
        raise UsageError(f"--device {wanted} is one device, and there are {count}.", "Use cuda, cpu or auto.")
    if device.type != "cuda":
        return device
    rank, there = processes.local_rank(), torch.cuda.device_count()
    if rank >= there:
        raise UsageError(
            f"{count}, and no GPU for number {rank} on its machine, which has {there}.",
            f"Give torchrun --nproc-per-node {there}, or mgap --device cpu.",
        )
    return torch.device("cuda", rank)


def choose_float32(wanted: str, precision: str, device: torch.device, sink: Output) -> str:
    """Set how float32 is multiplied on a GPU: tf32 or ieee; return the choice, logging it and its reason.

    `auto` keeps float32 exact where `precision` is fp32, and takes TF32 where training computes in a coarser
    format anyway. Raises UsageError for tf32 on a device that has none.
    """
    able = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    if wanted == "tf32" and not able:
        raise UsageError(
            f"--tf32: {device} has no TF32.", "It needs an NVIDIA GPU from Ampere on; leave the option out."
        )
    if wanted != "auto":
        chosen, why = wanted, "as asked"
    elif not able:
        chosen, why = "ieee", f"auto: {device} has no TF32"
    elif precision == "fp32":
        chosen, why = "ieee", "auto: training is in fp32, which TF32 would cut to 10 bits of mantissa"
    else:
        chosen, why = "tf32", f"auto: training is in {precision}, which is no finer"
    if device.type == "cuda":
        _multiply_in(chosen)
        sink.log(f"float32: {chosen} ({why})")
    return chosen


def choose_scoring_device(runtime: RuntimeConfig, sink: Output) -> torch.device:
    """Return the device as `choose_device` does, and make a GPU score in exact float32.

    With a number for `runtime.threads`, a CPU scores with so many threads. With `auto`, which is about
    training, the number does not change: it is PyTorch's own, or what training in this process chose.
    """
    if runtime.threads != "auto":
        use_threads(choose_threads(runtime.threads).number)
    device = choose_device(runtime.device, sink)
    if device.type == "cuda":
        _multiply_in("ieee")  # PyTorch's own default is TF32 for convolutions
    return device


def _multiply_in(chosen: str) -> None:
    torch.backends.cuda.matmul.fp32_precision = chosen
    torch.backends.cudnn.conv.fp32_precision = chosen  # type: ignore[attr-defined]


def be_deterministic(device: torch.device, sink: Output) -> None:
    """Make PyTorch refuse operations whose results may differ between runs, and choose those that do not.

    Call it before the device computes anything: cuBLAS reads its setting once.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    sink.log(f"deterministic: on {device} (an operation that cannot be deterministic is an error)")


def _named(wanted: str) -> torch.device:
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise UsageError(
            f"--device {wanted}: not a device.", "Use auto, cpu, cuda, cuda:N or mps."
        ) from error
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }.get(device.type)
    if available is None:
        raise UsageError(f"--device {wanted}: not supported.", "Use auto, cpu, cuda, cuda:N or mps.")
    if not available:
        raise UsageError(f"--device {wanted}: this machine's PyTorch has none.", "Use --device auto or cpu.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device {wanted}: there are {torch.cuda.device_count()} CUDA devices.")
    return device
