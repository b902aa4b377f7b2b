"""Encoders, one per file, found by name without importing them, because that takes seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgap_cli.config import ENCODERS
from mgap_cli.errors import UsageError
from mgap_cli.plugins import load_class

if TYPE_CHECKING:
    from mgap_cli.config import ModelConfig
    from mgap_cli.modalities.modality import Modality
    from mgap_cli.model.encoders.base import Encoder

_DEFAULTS = {"spectrogram": "resnet18", "frames": "resnet18", "features": "mlp", "sequence": "temporal"}


def load_encoder(name: str) -> type[Encoder]:
    """Return the encoder called `name`, or the class that `path/to/file.py:Name` names.

    Raises UsageError for an unknown name, and for a file or class that cannot be loaded.
    """
    from mgap_cli.model.encoders.base import Encoder

    return load_class(ENCODERS, name, Encoder, "encoder")


def encoder_name(modality: Modality, config: ModelConfig) -> str:
    """Return the name of a modality's encoder.

    It is the entry in `model.encoders`; otherwise `model.encoder`, if this accepts the kind of modality;
    otherwise the default of the kind.
    """
    if modality.name in config.encoders:
        return config.encoders[modality.name]
    if modality.kind in load_encoder(config.encoder).kinds:
        return config.encoder
    return _DEFAULTS[modality.kind]


def build_encoder(modality: Modality, config: ModelConfig) -> Encoder:
    """Return a new encoder for a modality; UsageError if the chosen one does not accept its kind."""
    name = encoder_name(modality, config)
    encoder = load_encoder(name)
    if modality.kind not in encoder.kinds:
        fitting = [other for other in ENCODERS.names() if modality.kind in load_encoder(other).kinds]
        raise UsageError(
            f"encoder {name} does not accept {modality.name}, which is of the kind {modality.kind}.",
            f"Use --set model.encoders.{modality.name}={' or '.join(fitting)}.",
        )
    return encoder(modality, config)
