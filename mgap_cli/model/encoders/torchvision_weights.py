"""Encoders that start from a file of torchvision's weights, and the errors of files that do not fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mgap_cli.errors import UnfitError, reason_of
from mgap_cli.model.encoders.base import Encoder


class TorchvisionEncoder(Encoder):
    """Base class of the encoders whose parameters have torchvision's names.

    torchvision_name: the function of torchvision.models whose state dict fits; empty if torchvision has none.
    classifier: how the names of the classifier's parameters begin, which the encoder does not have.
    first_weight: the name of the first convolution's weight, which reads the channels.
    """

    kinds = ("spectrogram", "frames")
    torchvision_name: ClassVar[str] = ""
    classifier: ClassVar[str]
    first_weight: ClassVar[str]

    @property
    def weight_module(self) -> nn.Module:
        """Return the module whose state dict has torchvision's names."""
        return self

    def load_torchvision(self, path: str) -> None:
        """Load a state dict of torchvision from a local file.

        The classifier is left out. For an input of one channel, the first convolution is summed over its
        three: it then computes what it would for a grey image. Raises UnfitError if the file is missing, is
        not a state dict, or has other names or shapes than this encoder.
        """
        module = self.weight_module
        own = module.state_dict()
        weights = {k: v for k, v in self._read(path).items() if not k.startswith(self.classifier)}
        first = weights.get(self.first_weight)
        if first is not None and first.dim() == 4 and first.shape[1] != own[self.first_weight].shape[1] == 1:
            weights[self.first_weight] = first.sum(dim=1, keepdim=True)
        if defect := _defect(weights, own):
            raise self._unfit(path, f"not weights of {self.name}: {defect}")
        module.load_state_dict(weights)

    def _read(self, path: str) -> Mapping[str, Tensor]:
        if not Path(path).is_file():
            raise self._unfit(path, "not a file" if Path(path).exists() else "no such file of weights")
        try:
            state = torch.load(Path(path), map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load raises many kinds of exceptions
            reason = reason_of(str(error).partition("\n")[0][:120] or error)
            raise self._unfit(path, f"cannot be read as a state dict ({reason})") from error
        if not isinstance(state, dict) or not state:
            raise self._unfit(path, f"holds a {type(state).__name__}, not a state dict")
        if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
            raise self._unfit(path, "not a state dict: it has more than named tensors")
        return state

    def _unfit(self, path: str, problem: str) -> UnfitError:
        name = self.torchvision_name
        if not name:
            hint = f"torchvision has no {self.name}: give a state dict with the names of its parameters."
        else:
            hint = f"Save it with torch.save(torchvision.models.{name}(...).state_dict(), FILE)."
        return UnfitError(f"{path}: {problem}.", hint)


class WrappedNetwork(TorchvisionEncoder):
    """Base class of the encoders that hold a whole network of torchvision, with its classifier replaced."""

    network: Any  # torchvision's classes are not typed

    @property
    def weight_module(self) -> nn.Module:
        module: nn.Module = self.network
        return module


def _defect(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """Return the reason why `weights` cannot replace `own`, or "" if they can."""
    if missing := [name for name in own if name not in weights]:
        return f"{len(missing)} of its {len(own)} tensors are missing, such as {missing[0]}"
    if foreign := [name for name in weights if name not in own]:
        return f"{len(foreign)} tensors are of another architecture, such as {foreign[0][:80]}"
    for name, tensor in own.items():
        if weights[name].shape != tensor.shape:
            return f"{name} has shape {tuple(weights[name].shape)}, and here it is {tuple(tensor.shape)}"
        if not weights[name].isfinite().all():
            return f"{name} has values that are not finite"
    return ""


def standardised(inputs: Tensor) -> Tensor:
    """Return inputs (B, C, H, W) with mean 0 and standard deviation 1 in each sample."""
    sd, mean = torch.std_mean(inputs, dim=(1, 2, 3), keepdim=True, correction=0)
    return (inputs - mean) / (sd + 1e-5)
