"""The settings that belong to each data set, one YAML file each; a comment at its top is its summary."""

from __future__ import annotations

from importlib import resources

from mgap_cli.config.resolve import from_dict
from mgap_cli.config.schema import Config
from mgap_cli.yaml_reader import parse_yaml


def presets() -> list[str]:
    """Return the names of the presets that ship with the package."""
    folder = resources.files(__name__)
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml"))


def preset(name: str) -> Config:
    """Return the defaults with the changes of the preset `name`. An unknown name gives the defaults."""
    if name not in presets():
        return Config()
    return from_dict(parse_yaml(_preset_text(name), f"preset {name}"), f"preset {name}")


def preset_summary(name: str) -> str:
    """Return what a preset's comment at the top says of it."""
    lines = _preset_text(name).splitlines()
    comment = lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    return " ".join(line.removeprefix("#").strip() for line in comment)


def _preset_text(name: str) -> str:
    return resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
