"""In which number format the network computes, and why."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from mgap_cli.console import Sink
from mgap_cli.errors import UsageError


@dataclass(frozen=True)
class Precision:
    """name: fp32, bf16 or fp16; `autocast()` is the context that training's forward pass runs in."""

    name: str
    device: torch.device

    def autocast(self) -> AbstractContextManager[object]:
        if self.name == "fp32":
            return nullcontext()
        dtype = torch.bfloat16 if self.name == "bf16" else torch.float16
        return torch.autocast(self.device.type, dtype=dtype)

    def scaler(self) -> torch.amp.GradScaler:
        """Return a loss scaler, switched off unless the format is fp16."""
        return torch.amp.GradScaler(self.device.type, enabled=self.name == "fp16")


def choose_precision(wanted: str, device: torch.device, sink: Sink) -> Precision:
    """Return the precision for `auto`, fp32, bf16 or fp16, logging the choice and its reason.

    Raises UsageError for fp16 without CUDA, whose gradients nothing would scale well.
    """
    if wanted == "fp16" and device.type != "cuda":
        raise UsageError(f"--precision fp16 needs CUDA, and the device is {device}.", "Use bf16 or fp32.")
    if wanted != "auto":
        name, why = wanted, "as asked"
    elif device.type == "cuda" and torch.cuda.is_bf16_supported():
        name, why = "bf16", "auto: this GPU computes it natively"
    else:
        name, why = "fp32", f"auto: the reproducible choice on {device.type}"
    sink.log(f"precision: {name} ({why})")
    return Precision(name, device)
