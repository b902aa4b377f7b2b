"""The Python packages that mgap declares: their names, their versions, and how they are imported."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement

# Packages whose import name differs from the name that is installed.
_MODULES = {"scikit-learn": "sklearn", "pyyaml": "yaml", "pillow": "PIL", "decord2": "decord"}


def module_of(package: str) -> str:
    """Return the name under which an installed package is imported."""
    return _MODULES.get(package, package)


def package_of(module: str) -> str:
    """Return the name under which the package of a module is installed."""
    return next((name for name in _MODULES if _MODULES[name] == module and name != "decord2"), module)


def version_of(package: str) -> str | None:
    """Return the installed version of a package; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def requirements(package: str, extra: str = "") -> list[Requirement]:
    """Return the requirements of an installed package on this machine; with `extra`, only those that it adds.

    Raises PackageNotFoundError if it is not installed.
    """
    from packaging.requirements import Requirement

    declared = [Requirement(line) for line in metadata.requires(package) or []]
    if not extra:
        return [r for r in declared if r.marker is None or r.marker.evaluate({"extra": ""})]
    of_extras = [(r, r.marker) for r in declared if r.marker is not None and "extra" in str(r.marker)]
    return [r for r, marker in of_extras if marker.evaluate({"extra": extra})]


def extras(package: str) -> list[str]:
    """Return the names of a package's extras. Raises PackageNotFoundError if it is not installed."""
    return metadata.metadata(package).get_all("Provides-Extra") or []
