"""`mgap doctor`: check whether mgap can work on this machine, with one line per check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mgap_cli.commands import _options as options
from mgap_cli.errors import MgapError
from mgap_cli.output import Output
from mgap_cli.processes import refuse_many


def doctor(
    folder: Annotated[
        Path, typer.Argument(help="The folder for runs, whose disk and file locks are checked.")
    ] = Path(),
    json: options.Json = False,
) -> None:
    """Check packages, devices, decoders, memory, disk and file locks; prints one line per check.

    It takes about ten seconds and leaves no files. The exit code is 1 if a part that mgap needs is broken.
    Add its output when you report a problem.
    """
    from mgap_cli.workflow.doctor.check import broken, doctor_document
    from mgap_cli.workflow.doctor.machine_checks import machine_checks
    from mgap_cli.workflow.doctor.media_checks import media_checks
    from mgap_cli.workflow.doctor.package_checks import extra_checks, package_checks

    refuse_many("doctor", "Run it without torchrun.")
    checks = [*package_checks(), *extra_checks(), *media_checks(), *machine_checks(folder)]
    Output(json).result(doctor_document(folder, checks), *(check.line() for check in checks))
    if names := broken(checks):
        raise MgapError(f"{len(names)} of {len(checks)} checks found a broken part: {', '.join(names)}.")
