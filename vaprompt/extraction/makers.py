"""What made a part of a store, for the record: versions, machine and device, of which none is part of a fingerprint."""

from __future__ import annotations

import platform
import socket
from collections.abc import Sequence
from importlib import metadata

from vaprompt import __version__

PACKAGES = ("torch", "open_clip_torch", "transformers", "av", "zarr")
"""Whose versions are told beside our own."""


def versions() -> dict[str, str]:
    """Return the versions of the programs that make features."""
    return {"vaprompt": __version__, **{name: metadata.version(name) for name in PACKAGES}}


def maker(devices: Sequence[str]) -> dict[str, str]:
    """Return the versions, this machine's name as `host`, and as `device` what networks on these devices run on."""
    return {**versions(), "host": socket.gethostname(), "device": ", ".join(sorted(set(map(_shown, devices))))}


def _shown(device: str) -> str:
    """Return a device's kind, whichever of several alike it is: what other ones can compute differently."""
    import torch

    kind = torch.device(device).type
    return torch.cuda.get_device_name(device) if kind == "cuda" else f"{kind} ({platform.machine()})"
