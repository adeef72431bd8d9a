"""Where memory does not suffice: the many ways in which that is said, and the one line in which we say it."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vaprompt.errors import RunError

SAID = ("DefaultCPUAllocator", "bad_alloc", "out of memory", "ALLOC_FAILED", "Cannot allocate memory")
"""What a RuntimeError says of it, by whom: torch on the processor, C++, CUDA, its libraries, the system."""
SHOWN = 200
"""Letters of that which are passed on."""
ELSEWHERE = "end what else needs memory, give --device cpu where a GPU's is too small, or use a larger machine"
"""What helps where nothing can be lowered."""


def is_lack_of_memory(error: BaseException) -> bool:
    """Say whether an error means that there was no memory left, on a device or in this machine."""
    if isinstance(error, RuntimeError):
        # torch's own kind by its name: a command that fails before it needs torch does not load it for this.
        return type(error).__name__ == "OutOfMemoryError" or any(words in str(error) for words in SAID)
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


@contextmanager
def enough_memory(where: Path | None, *, remedy: str) -> Iterator[None]:
    """Say what to lower where memory does not suffice for what the block does.

    Args:
        where: what the block works on: the folder of a run or a store.
        remedy: what takes less of it.

    Raises:
        RunError: it does not.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_lack_of_memory(error):
            raise
        lack = _told(where, error, remedy)
        # Its frames hold what took the memory, which whoever goes on from here may need.
        traceback.clear_frames(error.__traceback__)
    else:
        return
    raise lack


def lack_of_memory(error: BaseException) -> RunError | None:
    """Return what to say of an error where nobody closer to it did, if it means that there was no memory left."""
    return _told(None, error, ELSEWHERE) if is_lack_of_memory(error) else None


def _told(where: Path | None, error: BaseException, remedy: str) -> RunError:
    said = " ".join(str(error).split())[:SHOWN] or type(error).__name__
    return RunError(where, fault=f"memory does not suffice ({said})", remedy=remedy)
