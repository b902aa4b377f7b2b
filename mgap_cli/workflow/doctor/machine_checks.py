"""Devices, cores, memory, disk and file locks of this machine."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from mgap_cli.cores import usable_cores
from mgap_cli.errors import MgapError, reason_of
from mgap_cli.files import write_text
from mgap_cli.workflow.doctor.check import Check, State

LITTLE_MEMORY = 2_000_000_000  # bytes; torch and a small network need about 1 GB
LITTLE_DISK = 5_000_000_000  # bytes; the checkpoints of two ResNet-18 with SGD take 0.5 GB per run
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
# This runs in another process, because NFS implements flock by record locks, which belong to a process.
_TRY_LOCK = """
import fcntl, sys
try:
    fcntl.flock(open(sys.argv[1], "r+b"), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(10)
"""
_REFUSED = 10  # the exit code of that process if the lock is held


def machine_checks(folder: Path) -> list[Check]:
    """Return the checks of the devices, cores and memory, and of the file system on which `folder` is."""
    there = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    checks: dict[str, Callable[[], Check]] = {
        "python": _python,
        "CUDA": _cuda,
        "NCCL": _nccl,
        "MPS": _mps,
        "cores": _cores,
        "memory": _memory,
        "disk": lambda: _disk(there),
        "writing": lambda: _writing(there),
        "file locks": lambda: _locks(there),
        "compiler": _compiler,
    }
    return [_attempted(name, check) for name, check in checks.items()]


def _attempted(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except ImportError as error:
        return Check(name, "warning", f"not checked: {reason_of(error)}.")
    except Exception as error:  # a driver or a file system may raise any exception
        return Check(name, "warning", f"cannot be checked ({type(error).__name__}: {reason_of(error)}).")


def _python() -> Check:
    return Check("python", "ok", f"{platform.python_version()} on {platform.platform()}")


def _cuda() -> Check:
    import torch

    if not torch.cuda.is_available():
        if torch.version.cuda is None:
            if _NVIDIA_DRIVER.exists():
                text = "this PyTorch is built without CUDA, but the machine has an NVIDIA driver."
                return Check("CUDA", "warning", text, "Install PyTorch's CUDA build to train on the GPU.")
            return Check("CUDA", "absent", "this PyTorch is built without CUDA")
        if _NVIDIA_DRIVER.exists():
            text = f"built for CUDA {torch.version.cuda}, which cannot use this machine's NVIDIA driver."
            return Check("CUDA", "warning", text, "Update the driver, and look at CUDA_VISIBLE_DEVICES.")
        return Check("CUDA", "absent", f"built for CUDA {torch.version.cuda}, and there is no GPU")
    described = []
    for number in range(torch.cuda.device_count()):
        name = torch.cuda.get_device_name(number)
        try:
            free, total = torch.cuda.mem_get_info(number)
            ones = torch.ones(8, 8, device=f"cuda:{number}")
            if not bool((ones @ ones == 8).all()):
                raise ArithmeticError("a product of matrices is wrong")
        except Exception as error:
            hint = "Hide it with CUDA_VISIBLE_DEVICES, or give --device cpu."
            return Check("CUDA", "broken", f"cuda:{number} ({name}) fails: {reason_of(error)}.", hint)
        described.append(f"cuda:{number} {name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free")
    return Check("CUDA", "ok", f"{torch.version.cuda}; {'; '.join(described)}")


def _nccl() -> Check:
    import torch.distributed as dist

    if not dist.is_available() or not dist.is_gloo_available():
        return Check("NCCL", "absent", "this PyTorch has no gloo: mgap cannot train in several processes")
    if not dist.is_nccl_available():
        return Check("NCCL", "absent", "several processes exchange data on the CPU only (gloo)")
    import torch.cuda.nccl

    version = ".".join(map(str, torch.cuda.nccl.version()))  # type: ignore[no-untyped-call]
    return Check("NCCL", "ok", f"{version}, and gloo")


def _mps() -> Check:
    import torch

    if torch.backends.mps.is_available():
        return Check("MPS", "ok", "available")
    return Check("MPS", "absent", "no Apple GPU")


def _cores() -> Check:
    cores, load = usable_cores(), os.getloadavg()[0]
    text = f"{cores} usable of {os.cpu_count()}, load {load:.1f}"
    if threads := os.environ.get("OMP_NUM_THREADS"):
        text += f", OMP_NUM_THREADS={threads[:20]}"
    if load > cores:
        return Check("cores", "warning", f"{text}: other processes need them too.", "Training will be slow.")
    return Check("cores", "ok", text)


def _memory() -> Check:
    from mgap_cli.data.loading.placement import available_memory

    available = available_memory()
    if not available:
        return Check("memory", "ok", "the available memory is not known on this system")
    text = f"{available / 1e9:.1f} GB available"
    if available < LITTLE_MEMORY:
        return Check("memory", "warning", f"{text}, which is little.", "End other programs.")
    return Check("memory", "ok", text)


def _disk(there: Path) -> Check:
    free = shutil.disk_usage(there).free
    text = f"{free / 1e9:.1f} GB free in {there}"
    if free < LITTLE_DISK:
        return Check("disk", "warning", f"{text}, which is little.", "Remove files, or use another folder.")
    return Check("disk", "ok", text)


def _writing(there: Path) -> Check:
    try:
        with tempfile.TemporaryDirectory(prefix=".mgap-doctor-", dir=there) as name:
            path = Path(name) / "file"
            for text in ("old", "new"):
                write_text(path, text)
            if path.read_text(encoding="utf-8") != "new":
                raise OSError("a renamed file has its old content")
    except (OSError, MgapError) as error:
        text = f"files in {there} cannot be written ({reason_of(error)})."
        return Check("writing", "broken", text, "Name a folder that you may write: mgap doctor FOLDER")
    return Check("writing", "ok", f"files in {there} are written, synced and renamed")


def _locks(there: Path) -> Check:
    """Hold a lock and try to take it in another process; the system must refuse that."""
    state: State = "warning"
    hint = "Make sure that only one command at a time writes in a run folder there."
    try:
        with tempfile.NamedTemporaryFile(prefix=".mgap-doctor-", dir=there) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            other = subprocess.run([sys.executable, "-c", _TRY_LOCK, file.name], capture_output=True)
            if other.returncode == _REFUSED:
                return Check("file locks", "ok", "a second process is refused")
            text = "a second process gets a lock that this one holds."
    except OSError as error:
        text = f"the file system of {there} has no file locks ({reason_of(error)})."
    return Check("file locks", state, text, hint)


def _compiler() -> Check:
    compiler = os.environ.get("CXX") or "g++"
    if path := shutil.which(compiler):
        return Check("compiler", "ok", f"{path}, for --compile")
    return Check("compiler", "absent", f"no {compiler}, which --compile needs on a CPU")
