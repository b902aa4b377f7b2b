"""The number format in which the network computes, with the reason for the choice."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from mgap_cli.config import Config
from mgap_cli.data.media.spectrograms import spectrogram_shape
from mgap_cli.errors import UsageError
from mgap_cli.output import Output

# The width of the first stage from which bfloat16 is faster on a CPU that computes it natively. A step
# (forward, backward, SGD, channels-last) on an AMD EPYC with avx512_bf16, against float32's: width 64
# (ResNet-18, 224 pixels) 1.86 times as fast, width 16 (32 pixels) 1.19 times, width 4 (8 pixels) 0.94 times.
CPU_WIDTH = 32
# Inputs of at most this height and width reach the last strided convolution as a single pixel. There the bf16
# gradient of oneDNN reads uninitialised memory (seen with PyTorch 2.14 on avx512_bf16).
CPU_TOO_SMALL = 16


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


def choose_precision(wanted: str, device: torch.device, config: Config, sink: Output) -> Precision:
    """Return the precision for `auto`, fp32, bf16 or fp16, logging the choice and its reason.

    On a CPU, `auto` takes bf16 only for wide networks, where it is faster. Training is reproducible to the
    bit in both formats.
    Raises UsageError for fp16 without CUDA, because its gradients would underflow, and for bf16 on a
    CPU with inputs so small that its gradients are wrong.
    """
    width = config.model.width
    smallest = min(config.augment.image_size, *spectrogram_shape(config.data))
    risky = device.type == "cpu" and smallest <= CPU_TOO_SMALL
    if wanted == "fp16" and device.type != "cuda":
        raise UsageError(f"--precision fp16 needs CUDA, and the device is {device}.", "Use bf16 or fp32.")
    if wanted == "bf16" and risky:
        raise UsageError(
            f"--precision bf16: inputs of {smallest} pixels are too small for it on a CPU, whose gradients "
            "would be wrong.",
            "Use fp32.",
        )
    if wanted != "auto":
        name, why = wanted, "as asked"
    elif device.type == "cuda" and torch.cuda.is_bf16_supported():
        name, why = "bf16", "auto: this GPU computes it natively"
    elif device.type != "cpu" or not computes_bf16():
        name, why = "fp32", f"auto: this {device.type.upper()} does not compute bf16 natively"
    elif risky:
        name, why = "fp32", f"auto: inputs of {smallest} pixels are too small for bf16 on a CPU"
    elif width < CPU_WIDTH:
        name, why = "fp32", f"auto: bf16 would gain little at width {width}"
    else:
        name, why = "bf16", "auto: this CPU computes it natively"
    sink.log(f"precision: {name} ({why})")
    return Precision(name, device)


def computes_bf16() -> bool:
    """Return whether this CPU multiplies bfloat16 in hardware, according to PyTorch."""
    # Some supported versions of PyTorch lack this function.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
