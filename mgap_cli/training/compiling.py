"""Compile the network with torch.compile, and turn its compilers' errors into a message of two lines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import nn

from mgap_cli.errors import MgapError


def compiled(module: nn.Module) -> nn.Module:
    """Return `module` compiled for training. It shares its weights and their names."""
    return cast(Callable[[nn.Module], nn.Module], torch.compile)(module)


@contextmanager
def compiler_errors() -> Iterator[None]:
    """Turn the compiler's errors within the block into a MgapError; training never continues uncompiled."""
    try:
        yield
    except Exception as error:
        dynamo = sys.modules.get("torch._dynamo.exc")  # there once something was compiled
        if dynamo is None or not isinstance(error, dynamo.TorchDynamoException):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise MgapError(
            f"--compile: torch.compile failed ({reason}).",
            "Train without --compile, or install what it needs (on a CPU a C++ compiler, g++).",
        ) from error
