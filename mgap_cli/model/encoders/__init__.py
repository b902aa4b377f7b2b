"""Encoders, one per file, found by name without importing them, because that takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mgap_cli.errors import UsageError
from mgap_cli.plugins import load_class
from mgap_cli.registry import Entry, describe, stems

if TYPE_CHECKING:
    from mgap_cli.config import ModelConfig
    from mgap_cli.modalities.modality import Modality
    from mgap_cli.model.encoders.base import Encoder

_NO_ENCODERS = ("base", "residual")
_DEFAULTS = {"spectrogram": "resnet18", "frames": "resnet18", "features": "mlp", "sequence": "temporal"}


def names() -> list[str]:
    """Return the names of the encoders that ship, in alphabetical order."""
    return list(stems(__path__, _NO_ENCODERS))


def entries() -> list[Entry]:
    """Return every encoder that ships with its summary and its constants, such as PAPER and INPUTS."""
    return [describe(Path(__path__[0], f"{stem}.py")) for stem in stems(__path__, _NO_ENCODERS).values()]


def load_encoder(name: str) -> type[Encoder]:
    """Return the encoder called `name`, or the class that `path/to/file.py:Name` names.

    Raises UsageError for an unknown name, and for a file or class that cannot be loaded.
    """
    from mgap_cli.model.encoders.base import Encoder

    return load_class(__name__, stems(__path__, _NO_ENCODERS), name, Encoder, "encoder")


def encoder_name(modality: Modality, config: ModelConfig) -> str:
    """Return the name of a modality's encoder.

    It is that of `model.encoders`; else `model.encoder`, if it accepts this kind of modality; else the
    default of the kind.
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
        fitting = [other for other in names() if modality.kind in load_encoder(other).kinds]
        raise UsageError(
            f"encoder {name} does not accept {modality.name}, which is of the kind {modality.kind}.",
            f"Use --set model.encoders.{modality.name}={' or '.join(fitting)}.",
        )
    return encoder(modality, config)
