"""The user's own files that are parts of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgap_cli.plugins import Plugin, find_plugin, is_plugin

if TYPE_CHECKING:
    from mgap_cli.config import ModelConfig


def network_plugins(config: ModelConfig) -> dict[str, Plugin]:
    """Return the user's own classes behind these settings, by the setting's name without `model.`."""
    specs = {"fusion": config.fusion, "encoder": config.encoder}
    specs |= {f"encoders.{name}": spec for name, spec in config.encoders.items()}
    return {role: find_plugin(spec) for role, spec in specs.items() if is_plugin(spec)}
