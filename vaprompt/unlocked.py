"""Loops over tensors that hold no lock.

A thread that starts thousands of small operations needs Python's lock between any two of them, and where another does
the same, each waits for the other: a quarter of the time of a recurrence of 16 windows on two cores. TorchScript runs
a whole loop without the lock.

It is deprecated and has no successor that needs no compiler on the user's machine. Where it is not to be had, a
warning says so, and the loop runs as it stands, with the same numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch

Loop = TypeVar("Loop", bound=Callable[..., None])


def unlocked(loop: Loop) -> Loop:
    """Let a function run without Python's lock.

    Args:
        loop: in what TorchScript knows of Python; the first argument is a tensor, and it writes to what it is given. On
            an accelerator it runs as it stands: there the processor only starts its operations.
    """
    script = _scripted(loop)

    @wraps(loop)
    def run(first: torch.Tensor, *others: Any) -> None:
        (script if first.device.type == "cpu" else loop)(first, *others)

    return cast("Loop", run)


def _scripted(loop: Callable[..., None]) -> Callable[..., None]:
    # What is ignored, is ignored in all threads, and another's end of ignoring ends it too: hence not at the first
    # call, which may be any thread's, but where the module is imported. It takes some 10 ms.
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"`torch\.jit\.script`")
            script: Callable[..., None] = torch.jit.script(loop)
    except Exception as error:  # whatever a torch or a Python to come makes of it, the loop is right as it stands
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        warnings.warn(
            f"{loop.__qualname__} runs under Python's lock, and slower: TorchScript cannot read it ({reason})",
            RuntimeWarning,
            stacklevel=3,
        )
        return loop
    return script
