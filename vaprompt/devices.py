"""Which device work runs on, and how many cores there are."""

from __future__ import annotations

import os
import re

from vaprompt.errors import VapromptError


class DeviceError(VapromptError):
    """A device was asked for that this machine does not have."""


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pick_device(name: str = "auto") -> str:
    """Return a torch device's name: `auto` takes the first GPU where there is one, else the CPU.

    Raises:
        DeviceError: torch does not know the name, or the machine lacks the device.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        known = re.fullmatch(r"(cpu|cuda|mps)(:\d+)?", name)
        # torch's own words for a name that it does not know list a score of devices that nobody has.
        reason = str(error).splitlines()[0] if known else "is not the name of a device"
        remedy = "use auto, cpu, or cuda (cuda:1, mps) where there is one"
        raise DeviceError(f"--device {name}", fault=reason, remedy=remedy) from None
    return name


def pick_devices(name: str = "auto") -> list[str]:
    """Return the torch devices that work is shared among: `auto` and `cuda` take every GPU there is, else one device.

    Raises:
        DeviceError: torch does not know the name, or the machine lacks the device.
    """
    import torch

    first = pick_device(name)
    return [f"cuda:{index}" for index in range(torch.cuda.device_count())] if first == "cuda" else [first]


def emulation(precision: str, device: str) -> str | None:
    """Return a warning where a processor has no instructions for a number format, and is slower in it than in fp32.

    Args:
        precision: `fp32`, `bf16` or `fp16`; another, such as `auto`, means one that the device has.
        device: where work runs.
    """
    import torch

    instructions = {"bf16": ("avx512_bf16", "amx_bf16"), "fp16": ("avx512_fp16", "amx_fp16")}.get(precision)
    known = torch.cpu.get_capabilities()
    # Only of these processors is it known what they lack.
    if device != "cpu" or instructions is None or known.get("architecture") != "x86_64":
        return None
    if any(known.get(name) for name in instructions):
        return None
    return f"this processor has no instructions for {precision}; fp32 is faster on it"
