"""Room in the cache folder for joined features: who may write where, and what makes way for it."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

from vaprompt.sizes import parse_size

SPARE = 2**30
"""Bytes that are left free on the cache's disk."""
LIMIT_VARIABLE = "VAPROMPT_CACHE_LIMIT"
LIMIT = 64 * 10**9
"""Bytes of joined features that are kept, if the variable says nothing else; those used longest ago go first."""
OTHER_CACHE = "let VAPROMPT_CACHE name a folder on a disk with room, or leave --memory out"


def locked(folder: Path, say: Callable[[str], None]) -> IO[str] | None:
    """Keep others from filling a folder until the file that is returned is closed; None where that cannot be.

    Args:
        folder: where joined features are to be kept.
        say: is told what is waited for, where another one is filling it.
    """
    with ExitStack() as opened:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = opened.enter_context(folder.with_suffix(".lock").open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"waiting for another training, which is bringing these features into {folder.parent}")
                fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:  # no folder, or a file system on which nothing can be locked
            return None
        opened.pop_all()
    for left in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(left, ignore_errors=True)  # by one that was killed
    return lock


def room_lacking(folder: Path, nbytes: int) -> tuple[str, str] | None:
    """Make room for so many bytes; return why there is none, and what helps, or None where there is.

    Raises:
        OptionError: VAPROMPT_CACHE_LIMIT is no size.
        OSError: the folder cannot be looked into.
    """
    limit = parse_size(f"{LIMIT_VARIABLE} =", os.environ.get(LIMIT_VARIABLE) or str(LIMIT), least=0)
    folder.mkdir(parents=True, exist_ok=True)  # somebody may have cleared the cache since it was locked
    _clear_after_killed(folder)
    sizes = _sizes(folder)
    # What is being written counts as well, and stays.
    kept = sorted((path for path in sizes if not path.name.startswith(".")), key=lambda path: sizes[path][1])
    while kept and _sum(sizes) + nbytes > limit:
        # Whoever has mapped it keeps what it has.
        shutil.rmtree(kept[0], ignore_errors=True)
        del sizes[kept.pop(0)]
    if _sum(sizes) + nbytes > limit:
        return f"no more than {megabytes(limit)} are kept there", f"raise {LIMIT_VARIABLE}, or leave --memory out"
    free = shutil.disk_usage(folder).free - _promised(folder)
    if free <= nbytes + SPARE:
        return f"its disk has {megabytes(free)} free, of which {megabytes(SPARE)} are left", OTHER_CACHE
    return None


def reserve(file: int, nbytes: int) -> None:
    """Take the disk's room for a file at once, where its file system can; a map of what has none cannot be put into.

    Not `os.posix_fallocate`, which writes into every block where a file system cannot.

    Raises:
        OSError: there is no such room.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "fallocate"):
        libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        if libc.fallocate(file, 0, 0, nbytes) and (failed := ctypes.get_errno()) in (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EFBIG,
        ):
            raise OSError(failed, os.strerror(failed))


def megabytes(nbytes: int) -> str:
    """Return a size in words."""
    return f"{nbytes / 1e6:,.0f} MB"


def _promised(folder: Path) -> int:
    """Return bytes that files which are being written will take of the disk, and have not taken yet."""
    nbytes = 0
    for file in folder.glob(".*.partial/*"):
        with suppress(FileNotFoundError):
            state = file.stat()
            nbytes += max(0, state.st_size - 512 * state.st_blocks)
    return nbytes


def _sum(sizes: Mapping[Path, tuple[int, float]]) -> int:
    return sum(nbytes for nbytes, _ in sizes.values())


def _sizes(folder: Path) -> dict[Path, tuple[int, float]]:
    """Return the bytes of each folder in a folder, and when it was last used, while others publish and delete."""
    found = {}
    for path in folder.iterdir():
        with suppress(FileNotFoundError, NotADirectoryError):
            found[path] = (sum(_bytes(file) for file in path.iterdir()), path.stat().st_mtime)
    return found


def _bytes(file: Path) -> int:
    with suppress(FileNotFoundError):
        return file.lstat().st_size
    return 0


def _clear_after_killed(folder: Path) -> None:
    """Delete what was begun by processes that are no more: nobody holds the lock on it."""
    for aside in folder.glob(".*.partial"):
        with (folder / f"{aside.name.split('.')[1]}.lock").open("w") as lock, suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(aside, ignore_errors=True)
