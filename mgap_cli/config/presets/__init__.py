"""The settings of data sets and protocols, one YAML file each; its first comment is the summary.

A data set's own preset has its name; `<data set>-<protocol>` is a protocol that `prepare --preset` chooses.
"""

from __future__ import annotations

import dataclasses
from importlib import resources

from mgap_cli.config.resolve import from_dict
from mgap_cli.config.schema import Config, DataConfig
from mgap_cli.errors import UsageError, did_you_mean
from mgap_cli.yaml_reader import parse_yaml


def presets() -> list[str]:
    """Return the names of the presets that ship with the package."""
    folder = resources.files(__name__)
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml"))


def data_set_presets() -> list[str]:
    """Return the presets of data sets, without those of further protocols."""
    known = presets()
    return [name for name in known if not any(name.startswith(f"{other}-") for other in known)]


def require_preset(name: str) -> Config:
    """Return the preset `name`; UsageError, with a suggestion, if there is none of that name."""
    if name not in presets():
        hint = did_you_mean(name, presets(), f"Known presets: {', '.join(presets())}.")
        raise UsageError(f"unknown preset {name!r}.", hint)
    return preset(name)


def preset(name: str) -> Config:
    """Return the defaults with the changes of the preset `name`. An unknown name gives the defaults."""
    if name not in presets():
        return Config()
    return from_dict(parse_yaml(_preset_text(name), f"preset {name}"), f"preset {name}")


def protocol_text(name: str, data: DataConfig) -> str:
    """Return the protocol `data` in words: the preset `name` and the differences from it.

    Seeds and the share of validation belong to the split, not to the protocol.
    """
    if name not in presets():
        return "no preset"
    own = dataclasses.asdict(preset(name).data)
    differing = [
        f"data.{key} {','.join(f'{part:g}' for part in value) if isinstance(value, tuple) else value}"
        for key, value in dataclasses.asdict(data).items()
        if key not in ("seed", "val_share") and value != own[key]
    ]
    return f"{name}, but with {', '.join(differing)}" if differing else name


def preset_summary(name: str) -> str:
    """Return the comment at the top of a preset."""
    lines = _preset_text(name).splitlines()
    comment = lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    return " ".join(line.removeprefix("#").strip() for line in comment)


def _preset_text(name: str) -> str:
    return resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
