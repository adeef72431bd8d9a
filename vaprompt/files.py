"""Files that are either whole or not there: written aside, flushed to disk, published by rename."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vaprompt.errors import HeldError, TargetError

PARTIAL = ".partial"
LEFT_BEHIND = 3600.0
"""Seconds without a write after which nobody writes a file any more."""
LONG = 100
"""Bytes of a name, or of what stands behind its last dot, that others stand beside in the name of a file aside."""


@contextmanager
def published(target: Path) -> Iterator[Path]:
    """Yield a path to write to; when the block ends well its file takes the place of `target`, else it is removed.

    Raises:
        TargetError: the folder cannot be written to.
    """
    aside = target.with_name(_aside(target.name))
    make_folder(target.parent)
    try:
        yield aside
        with aside.open("rb+") as written:
            os.fsync(written.fileno())
        aside.replace(target)
    except OSError as error:
        raise unwritable(target, error) from None
    finally:
        with suppress(OSError):  # a disk that is mounted to be read says so even of a file that is not there
            aside.unlink(missing_ok=True)


def _aside(name: str) -> str:
    """Return what a file is called while it is written; one of a long name by that name's digest."""
    suffix = Path(name).suffix
    if len(os.fsencode(name)) > LONG:
        name, suffix = hashlib.sha256(os.fsencode(name)).hexdigest()[:32], suffix if len(suffix) < LONG else ""
    return f".{name}.{os.getpid()}{PARTIAL}{suffix}"


def make_folder(folder: Path) -> None:
    """Create a folder and its parents.

    Raises:
        TargetError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from None


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Create a folder and keep other processes out of it, then clear away what a killed one left half-written.

    Raises:
        TargetError: it cannot be created or written to.
        HeldError: another process holds it.
    """
    make_folder(folder)
    descriptor = None
    try:
        try:
            # The folder itself is locked: no lock file can be left behind.
            descriptor = os.open(folder, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in folder.rglob(f".*{PARTIAL}*"):
                left.unlink(missing_ok=True)
        except BlockingIOError:
            fault = "another process is writing into it"
            raise HeldError(folder, fault=fault, remedy="wait for it to end, or name another folder") from None
        except OSError as error:
            raise unwritable(folder, error) from None
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def clear_left_behind(folder: Path) -> None:
    """Delete what processes that were killed left half-written in a folder that nobody holds, long enough ago."""
    for left in folder.glob(f".*{PARTIAL}*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > LEFT_BEHIND:
                left.unlink()


def write_json(target: Path, value: Any) -> None:
    """Publish `value` as indented JSON; nan and infinity are refused, as JSON has none."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    with published(target) as aside:
        aside.write_text(text, encoding="utf-8")


def text_of(path: Path) -> str:
    """Return the text of a file that others may have written or replaced.

    Raises:
        FileNotFoundError: nothing is there.
        OSError: it is no file, such as a pipe, reading from which might never end; or cannot be read.
        ValueError: it is not in UTF-8.
    """
    if path.exists() and not path.is_file():
        raise OSError("it is no file")
    return path.read_text(encoding="utf-8")


def parsed_json(text: str | bytes) -> Any:
    """Return what a JSON text holds.

    Raises:
        ValueError: it is none, or lists in it lie within lists more deeply than Python can follow.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def require_folder(folder: Path) -> None:
    """Refuse, before work begins, a folder that exists as something else or could not be written to; make nothing.

    Raises:
        TargetError: nothing can be written there.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        fault = "is a file, where a folder is wanted" if there == folder else f"{there} on its way is a file"
        raise TargetError(folder, fault=fault, remedy="name another folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise unwritable(folder, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def require_file(target: Path) -> None:
    """Refuse, before work begins, a file that could not be written; make nothing.

    Raises:
        TargetError: it is a folder, or nothing can be written where it is to lie.
    """
    if target.is_dir():
        raise TargetError(target, fault="is a folder", remedy="name a file in it")
    require_folder(target.parent)


def unwritable(target: Path, error: OSError) -> TargetError:
    """Return the error for a target that the system does not let us write."""
    if isinstance(error, FileExistsError | NotADirectoryError):
        fault = "cannot be written: a file is in the place of a folder"
        return TargetError(target, fault=fault, remedy="choose another path, or move that file away")
    if error.errno == errno.ENAMETOOLONG:
        return TargetError(target, fault="cannot be written: its name is too long", remedy="shorten the name")
    return TargetError(
        target, fault=f"cannot be written ({error.strerror or error})", remedy="check the path, its rights and the disk"
    )
