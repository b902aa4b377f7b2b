"""The two-branch network, from a batch to its logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mgap_cli.errors import UsageError
from mgap_cli.model.encoders import ResNet
from mgap_cli.model.fusion import ADDITIVE, FUSIONS, Concat, Sum

if TYPE_CHECKING:
    from mgap_cli.config import ModelConfig

HEADS = ("fused", "audio", "visual")


@dataclass(frozen=True)
class Outputs:
    """Logits, (B, C) each. `parts`: the additive fusion's shares (audio, visual), else None."""

    fused: Tensor
    audio: Tensor
    visual: Tensor
    parts: tuple[Tensor, Tensor] | None

    def detach(self) -> Outputs:
        """Return the same logits without their gradients."""
        parts = (self.parts[0].detach(), self.parts[1].detach()) if self.parts else None
        return Outputs(self.fused.detach(), self.audio.detach(), self.visual.detach(), parts)

    def head(self, name: str) -> Tensor:
        logits: Tensor = getattr(self, name)
        return logits


class AudioVisualNetwork(nn.Module):
    """An encoder a modality, a fusion, and the unimodal logits.

    config.unimodal: "heads" gives each modality a linear classifier of its own; "decomposed" reads the
    additive fusion's shares instead (UsageError for any other fusion).
    probes: the heads read the features without sending gradients back: they measure, and do not train.
    """

    def __init__(self, config: ModelConfig, classes: int, probes: bool = False) -> None:
        super().__init__()
        if config.unimodal == "decomposed" and config.fusion not in ADDITIVE:
            raise UsageError(
                f"model.unimodal=decomposed needs an additive fusion, and model.fusion is {config.fusion}.",
                f"Use --set model.unimodal=heads, or --fusion {' or '.join(ADDITIVE)}.",
            )
        self.unimodal, self.probes = config.unimodal, probes
        self.audio_encoder = ResNet(config.encoder, 1, config.width)
        self.visual_encoder = ResNet(config.encoder, 3, config.width)
        features = self.audio_encoder.features
        self.fusion = FUSIONS[config.fusion](features, classes)
        if config.unimodal == "heads":
            self.audio_head = nn.Linear(features, classes)
            self.visual_head = nn.Linear(features, classes)
        self.apply(_initialise)
        if config.audio_weights:
            self.audio_encoder.load_torchvision(config.audio_weights)
        if config.visual_weights:
            self.visual_encoder.load_torchvision(config.visual_weights)

    def forward(self, frames: Tensor, audio: Tensor) -> Outputs:
        """frames: (B, T, 3, S, S); audio: (B, 1, F, L). Frame features are averaged over T."""
        batch, times = frames.shape[:2]
        f_a = self.audio_encoder(audio)
        f_v = self.visual_encoder(frames.flatten(0, 1)).unflatten(0, (batch, times)).mean(dim=1)
        fused = self.fusion(f_a, f_v)
        parts = self.fusion.parts(f_a, f_v) if isinstance(self.fusion, Concat | Sum) else None
        if self.unimodal == "decomposed":
            assert parts is not None
            return Outputs(fused, parts[0], parts[1], parts)
        if self.probes:
            f_a, f_v = f_a.detach(), f_v.detach()
        return Outputs(fused, self.audio_head(f_a), self.visual_head(f_v), parts)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.xavier_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def probabilities(logits: Tensor) -> Tensor:
    """Return softmax over classes in float32, whatever precision the logits came in."""
    return torch.softmax(logits.float(), dim=1)
