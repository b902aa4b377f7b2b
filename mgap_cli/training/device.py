"""Which device computes, and why."""

from __future__ import annotations

import os

import torch

from mgap_cli.console import Sink
from mgap_cli.errors import UsageError


def choose_device(wanted: str, sink: Sink) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda`, `cuda:N` or `mps`, logging the choice and its reason.

    Raises UsageError for a device that is not there: an explicit request never falls back.
    """
    refuse_many_processes()
    if wanted == "auto":
        if torch.cuda.is_available():
            device, why = torch.device("cuda"), "auto: CUDA is available"
        elif torch.backends.mps.is_available():
            device, why = torch.device("mps"), "auto: no CUDA, but MPS is available"
        else:
            device, why = torch.device("cpu"), "auto: neither CUDA nor MPS is available"
    else:
        device, why = _named(wanted), "as asked"
    name = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    )
    sink.log(f"device: {device} ({name}; {why})")
    return device


def refuse_many_processes() -> None:
    """Raise UsageError under a launcher of several processes: they would write over each other's run."""
    world = os.environ.get("WORLD_SIZE", "1")
    if world != "1":
        raise UsageError(
            f"WORLD_SIZE is {world}, and training runs on one device a run.",
            "Start mgap without torchrun; to fill several devices, give each a seed with --device cuda:N.",
        )


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
