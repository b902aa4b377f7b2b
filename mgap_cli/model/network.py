"""The network: one encoder per modality, a fusion layer, and the unimodal logits."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mgap_cli.errors import UsageError, did_you_mean
from mgap_cli.modalities.audio_visual import AUDIO_VISUAL
from mgap_cli.modalities.modality import Modality
from mgap_cli.model.encoders import build_encoder
from mgap_cli.model.encoders.torchvision_weights import TorchvisionEncoder
from mgap_cli.model.fusions import additive_names, load_fusion

if TYPE_CHECKING:
    from mgap_cli.config import ModelConfig

FUSED = "fused"
SHARED = "shared"  # the key of the shared head of all modalities


@dataclass(frozen=True)
class Outputs:
    """The outputs of one forward pass.

    logits: (B, C) by head, the fused head first; without it if only some of the modalities ran. features: (B,
    D) by modality. contributions: the additive fusion's parts (B, C) by modality, which sum to the fused
    logits; empty for any other fusion.
    """

    logits: dict[str, Tensor]
    features: dict[str, Tensor]
    contributions: dict[str, Tensor]

    @property
    def fused(self) -> Tensor:
        """Return the fused logits (B, C)."""
        return self.logits[FUSED]

    @property
    def unimodal(self) -> dict[str, Tensor]:
        """Return the logits (B, C) of the unimodal heads, by modality."""
        return {head: z for head, z in self.logits.items() if head != FUSED}


class MultimodalNetwork(nn.Module):
    """One encoder per modality, a fusion layer, and the unimodal logits.

    config.unimodal: "heads" gives each modality its own linear classifier; "shared" has one for all
    (UsageError if their features differ in size); "decomposed" reads the additive fusion's contributions
    instead (UsageError for any other fusion). A late fusion joins the logits of the heads.
    probes: the unimodal heads read detached features, so that they measure the encoders and do not train
    them. This has no effect in a late fusion, which needs their gradients. classes: C, the number of logits
    of each head.
    """

    def __init__(
        self,
        config: ModelConfig,
        classes: int,
        probes: bool = False,
        modalities: Sequence[Modality] = AUDIO_VISUAL,
    ) -> None:
        super().__init__()
        fusion = load_fusion(config.fusion)
        if config.unimodal == "decomposed" and not fusion.additive:
            raise UsageError(
                f"model.unimodal=decomposed needs an additive fusion, and model.fusion is {config.fusion}.",
                f"Use --set model.unimodal=heads, or --fusion {' or '.join(additive_names())}.",
            )
        self.unimodal, self.classes = config.unimodal, classes
        self.probes = probes and not fusion.late
        self.kinds = {m.name: m.kind for m in modalities}
        _check_names(config.encoders, self.kinds)
        encoders = {m.name: build_encoder(m, config) for m in modalities}
        self.encoders = nn.ModuleDict(encoders)
        sizes = {name: encoder.features for name, encoder in encoders.items()}
        self.fusion = fusion(sizes, classes)
        self.heads = nn.ModuleDict()
        if config.unimodal == "heads":
            self.heads.update({name: nn.Linear(size, classes) for name, size in sizes.items()})
        elif config.unimodal == "shared":
            self.heads[SHARED] = nn.Linear(_one_size(sizes), classes)
        self.apply(initialise)
        for name, weights in (("audio", config.audio_weights), ("visual", config.visual_weights)):
            if weights:
                _load_weights(encoders.get(name), name, weights)

    def encode(self, modality: str, inputs: Tensor) -> Tensor:
        """Return the features (B, D) of one modality.

        inputs: spectrograms (B, 1, F, L), features (B, D), sequences (B, T, D), or frames (B, T, 3, S, S),
        whose features are averaged over T unless the encoder reads whole clips.
        """
        encoder = self.encoders[modality]
        if self.kinds[modality] == "frames" and not encoder.whole_clips:
            batch, times = inputs.shape[:2]
            pooled: Tensor = encoder(inputs.flatten(0, 1)).unflatten(0, (batch, times)).mean(dim=1)
            return pooled
        encoded: Tensor = encoder(inputs)
        return encoded

    def forward(self, inputs: Mapping[str, Tensor], only: Collection[str] | None = None) -> Outputs:
        """Return the logits and features for inputs by modality; `only`: run these modalities alone."""
        wanted = [m for m in self.encoders if only is None or m in only]
        features = {m: self.encode(m, inputs[m]) for m in wanted}
        whole = len(features) == len(self.encoders)
        contributions = {}
        if whole and self.fusion.additive:
            contributions = self.fusion.contributions(features)
        if self.unimodal == "decomposed":
            unimodal = contributions
        else:
            unimodal = {m: self.head(m)(f.detach() if self.probes else f) for m, f in features.items()}
        fused = {FUSED: self._fused(features, unimodal)} if whole else {}
        return Outputs({**fused, **unimodal}, features, contributions)

    def fuse(self, features: Mapping[str, Tensor]) -> Tensor:
        """Return the fused logits (B, C) for features (B, D) by modality."""
        reads_heads = self.fusion.late or self.fusion.pools
        return self._fused(features, {m: self.head(m)(f) for m, f in features.items()} if reads_heads else {})

    def _fused(self, features: Mapping[str, Tensor], unimodal: Mapping[str, Tensor]) -> Tensor:
        fused: Tensor
        if self.fusion.pools:
            fused = self.fusion(features, unimodal)
        else:
            fused = self.fusion(unimodal if self.fusion.late else features)
        return fused

    def head(self, modality: str) -> nn.Module:
        """Return the linear classifier of a modality, which all may share; not for decomposed logits."""
        return self.heads[SHARED if self.unimodal == "shared" else modality]

    @property
    def head_names(self) -> tuple[str, ...]:
        """Return the names of the fused head and of one unimodal head per modality."""
        return (FUSED, *self.encoders)


def _check_names(encoders: Collection[str], modalities: Collection[str]) -> None:
    """Raise UsageError if `model.encoders` names a modality that the network does not have."""
    for name in encoders:
        if name not in modalities:
            raise UsageError(
                f"model.encoders.{name}: the store has no such modality ({', '.join(modalities)}).",
                did_you_mean(name, modalities, "", "model.encoders.{}"),
            )


def _one_size(sizes: Mapping[str, int]) -> int:
    """Return the size of all modalities' features; UsageError if they differ."""
    if len({*sizes.values()}) > 1:
        each = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise UsageError(
            f"model.unimodal=shared needs features of one size for all modalities, and they have {each}.",
            "Choose encoders with the same width for all modalities.",
        )
    return next(iter(sizes.values()))


def _load_weights(encoder: nn.Module | None, name: str, file: str) -> None:
    """Load torchvision's weights into an encoder; UsageError if the modality's encoder cannot use them."""
    if not isinstance(encoder, TorchvisionEncoder):
        raise UsageError(
            f"model.{name}_weights is for an encoder of torchvision, and {name} has none here.",
            f"Remove it: --set model.{name}_weights=",
        )
    encoder.load_torchvision(file)


def initialise(module: nn.Module) -> None:
    """Draw initial weights: He et al. (2015) for convolutions, Glorot and Bengio (2010) for linear layers."""
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.xavier_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def full_precision(values: Tensor) -> Tensor:
    """Return values of any half precision in float32; float64 is not changed."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def probabilities(logits: Tensor) -> Tensor:
    """Return softmax over classes in full precision, for logits of any precision."""
    return torch.softmax(full_precision(logits), dim=1)
