"""How this process comes by memory."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names that glibc's malloc.h gives to what can be set."""
KEPT = 2**30
"""Bytes that may be kept."""
LARGEST = 30 * 2**20
"""Bytes of what comes from the memory that is kept; glibc takes no more than 32 MiB."""


def keep_freed_memory() -> None:
    """Let what is freed be kept for what comes next, as batches of one size do behind each other.

    Otherwise the C library gives large pieces back to the system at once, which hands them out again page by page,
    each set to zero: several per cent of a network's time on the processor. Nothing changes where it is not glibc.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_TRIM_THRESHOLD, KEPT)
        mallopt(_MMAP_THRESHOLD, LARGEST)
