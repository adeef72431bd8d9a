"""Which files a video's features were made of, and whether they are still the same."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from stat import S_ISDIR
from typing import Any

from vaprompt.errors import DatasetError

SAMPLE = 16
"""Files of a folder whose sizes and times are looked at whenever an extraction looks for what is to be done."""


def facts(path: Path) -> dict[str, Any]:
    """Return name, size, modification time and SHA-256 of a file.

    Of a folder: the SHA-256 of its listing with sizes, and as `content` that of its files' names and digests; besides,
    as `sample` the names of some of its files, and as `sampled` the SHA-256 of their sizes and modification times.

    Raises:
        DatasetError: it cannot be read.
    """
    try:
        state = path.stat()
        found = {"name": path.name, "bytes": state.st_size, "mtime_ns": state.st_mtime_ns}
        if not path.is_dir():
            return found | {"sha256": _file_digest(path, state.st_size, state.st_mtime_ns, state.st_ctime_ns)}
        files = sorted(path.iterdir(), key=lambda file: file.name)
        sizes = [file.stat().st_size for file in files]
        some = _evenly(files)
        sampled = _sampled(path, [file.name for file in some])
        listing = "".join(f"{file.name} {size}\n" for file, size in zip(files, sizes, strict=True))
        content = "".join(f"{file.name} {_sha256(file)}\n" for file in files if file.is_file())
    except OSError as error:
        raise _unreadable(path, error) from None
    return found | {
        "bytes": sum(sizes),
        "sha256": hashlib.sha256(listing.encode()).hexdigest(),
        "content": hashlib.sha256(content.encode()).hexdigest(),
        "sample": [file.name for file in some],
        "sampled": sampled,
    }


def change(kept: Mapping[str, Any], path: Path | None, *, deep: bool = False) -> str | None:
    """Return how a source differs from what `facts` once said of it, or None where it does not.

    Size and modification time are looked at first: while they stay, files are not read again, unless `deep` asks for
    digests. Of a folder of crops these are its own time, which changes when a file comes, goes or is renamed, and sizes
    and times of up to `SAMPLE` of its files: to look at thousands in each of hundreds of folders would take longer than
    all the rest. So crops that were all written anew in place are noticed at once, and a few of them by `deep` alone.
    A file of another time is read: one that was merely copied is the same. One that is gone counts as unchanged, as
    nothing newer is there.

    Raises:
        DatasetError: it cannot be read.
    """
    if path is None:
        return None
    try:
        state = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unreadable(path, error) from None
    if not S_ISDIR(state.st_mode) and state.st_size != kept.get("bytes"):
        return f"{path.name} has {state.st_size} bytes, and had {kept.get('bytes')}"
    if not deep and state.st_mtime_ns == kept.get("mtime_ns") and _sample_is_same(kept, path):
        return None
    now = facts(path)
    if now["bytes"] != kept.get("bytes"):
        return f"{path.name} holds {now['bytes']} bytes, and held {kept.get('bytes')}"
    if any(digest in kept and now.get(digest) != kept[digest] for digest in ("sha256", "content")):
        return f"{path.name} has another content of the same size"
    return None


def _evenly(files: Sequence[Path]) -> list[Path]:
    """Return the first, the last, and some between them."""
    count = min(SAMPLE, len(files))
    return [files[index * (len(files) - 1) // max(1, count - 1)] for index in range(count)]


def _sampled(folder: Path, names: Sequence[str]) -> str:
    """Return one digest for the sizes and modification times of files in a folder.

    Raises:
        OSError: one of them is not there, or cannot be looked at.
    """
    states = [os.stat(f"{folder}{os.sep}{name}") for name in names]  # noqa: PTH116 - many are looked at
    return hashlib.sha256("".join(f"{state.st_size} {state.st_mtime_ns}\n" for state in states).encode()).hexdigest()


def _sample_is_same(kept: Mapping[str, Any], folder: Path) -> bool:
    """Say whether the sampled files of a folder are as they were; of a file, or by older versions, none were."""
    names = kept.get("sample", [])
    if not isinstance(names, list) or not all(isinstance(name, str) and "/" not in name for name in names):
        return False
    try:
        return not names or _sampled(folder, names[:SAMPLE]) == kept.get("sampled")
    except (OSError, ValueError):  # whose folder's content is compared, which says what is wrong
        return False


def _unreadable(path: Path, error: OSError) -> DatasetError:
    fault = f"cannot be read ({error.strerror or error})"
    return DatasetError(path, fault=fault, remedy="check the path and rights")


@lru_cache(maxsize=16)
def _file_digest(path: Path, size: int, mtime_ns: int, ctime_ns: int) -> str:
    """Return the file's SHA-256; remembered while size and times stay, as two people can share one video."""
    return _sha256(path)


def _sha256(path: Path) -> str:
    # Without a buffer in between: for a face crop, that would cost as much as all the rest.
    with path.open("rb", buffering=0) as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
