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
