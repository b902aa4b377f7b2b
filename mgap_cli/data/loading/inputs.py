"""The preparation of each kind of modality between the store and the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgap_cli.data.loading import augment

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from mgap_cli.config import AugmentConfig
    from mgap_cli.modalities.modality import Modality

_DRAWING_ORDER = (
    "frames",
    "spectrogram",
    "features",
    "sequence",
)  # order of random draws


def training_inputs(
    modalities: tuple[Modality, ...],
    raw: dict[str, Tensor],
    config: AugmentConfig,
    generator: torch.Generator,
    total: int,
    rows: slice,
) -> dict[str, Tensor]:
    """Return augmented inputs by modality; features and sequences are not augmented.

    generator, total and rows are as for `augment.augment`.
    """
    inputs = {}
    for modality in sorted(modalities, key=lambda m: _DRAWING_ORDER.index(m.kind)):
        values = raw[modality.name]
        if modality.kind == "frames":
            values = augment.augment(values, config, generator, total, rows)
        else:
            values = _numbers(modality, values)
            if modality.kind == "spectrogram" and config.audio_mask:
                values = augment.mask(values, config.audio_mask, generator, total, rows)
        inputs[modality.name] = values
    return {m.name: inputs[m.name] for m in modalities}


def plain_inputs(
    modalities: tuple[Modality, ...], raw: dict[str, Tensor], config: AugmentConfig
) -> dict[str, Tensor]:
    """Return inputs by modality without augmentation."""
    inputs = {}
    for modality in modalities:
        values = raw[modality.name]
        if modality.kind == "frames":
            values = augment.resize(augment.to_float(values), config.image_size)
        else:
            values = _numbers(modality, values)
        inputs[modality.name] = values
    return inputs


def _numbers(modality: Modality, values: Tensor) -> Tensor:
    """Return the float32 inputs of any kind except frames; a spectrogram gets one channel."""
    return values.float().unsqueeze(1) if modality.kind == "spectrogram" else values.float()
