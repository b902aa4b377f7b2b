"""Check that the required packages are installed, fit together and can be imported."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from typing import TYPE_CHECKING

from mgap_cli import __version__
from mgap_cli.errors import reason_of
from mgap_cli.packages import extras, module_of, requirements, version_of
from mgap_cli.workflow.doctor.check import Check, State

if TYPE_CHECKING:
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

_FOR_USERS = ("torchaudio",)  # mgap does not import it; users' own encoders and methods may
_FOR_TESTS = ("test",)  # only developers of mgap need these extras


def package_checks() -> list[Check]:
    """Return one check per required package."""
    try:
        required = {r.name: r for r in requirements("mgap")}
    except PackageNotFoundError:
        text = f"{__version__}, not installed as a package, so other packages' versions are not checked."
        return [Check("mgap", "warning", text, "Install it: `python -m pip install -e .` in its folder.")]
    except ImportError as error:
        hint = f"Run: python -m pip install {error.name}"
        return [Check("mgap", "broken", f"{__version__}; {reason_of(error)}.", hint)]
    checks = [Check("mgap", "ok", __version__)]
    return checks + [_package(r, required) for r in required.values()]


def extra_checks() -> list[Check]:
    """Return one check per optional extra."""
    try:
        names = [name for name in extras("mgap") if name not in _FOR_TESTS]
        return [_extra(name) for name in names]
    except (PackageNotFoundError, ImportError):
        return []  # the check of this package gives the reason


def _package(requirement: Requirement, required: Mapping[str, Requirement]) -> Check:
    name = requirement.name
    worst: State = "warning" if name in _FOR_USERS else "broken"
    version = version_of(name)
    repair = f"Run: python -m pip install '{name}{requirement.specifier}'"
    if version is None:
        return Check(name, worst, f"not installed; mgap needs {requirement.specifier}.", repair)
    for owner, specifier in [("mgap", requirement.specifier), *_asked_by_others(name, required)]:
        if not specifier.contains(version, prereleases=True):
            return Check(name, worst, f"{version}, but {owner} needs {specifier}.", repair)
    try:
        importlib.import_module(module_of(name))
    except Exception as error:  # a package with an incompatible binary may raise any exception
        text = f"{version} cannot be imported ({type(error).__name__}: {reason_of(error)})."
        return Check(name, worst, text, f"{repair} --force-reinstall")
    return Check(name, "ok", f"{version} (mgap needs {requirement.specifier})")


def _asked_by_others(name: str, required: Mapping[str, Requirement]) -> list[tuple[str, SpecifierSet]]:
    """Return the other required packages that need this one, with the versions that they need."""
    asked = []
    for other in required:
        try:
            needs = requirements(other)
        except PackageNotFoundError:
            continue  # the check of that package reports it
        asked += [(other, need.specifier) for need in needs if need.name == name]
    return asked


def _extra(name: str) -> Check:
    missing = [r.name for r in requirements("mgap", name) if version_of(r.name) is None]
    if missing:
        return Check(name, "absent", "not installed.", f"To install it: python -m pip install 'mgap[{name}]'")
    installed = (f"{r.name} {version_of(r.name)}" for r in requirements("mgap", name))
    return Check(name, "ok", ", ".join(installed))
