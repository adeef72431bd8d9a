"""Which files a video's features were made of, and whether they are still the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from vaprompt.errors import DatasetError


def facts(path: Path) -> dict[str, Any]:
    """Return name, size, modification time and SHA-256 of a file; of a folder, the SHA-256 of its listing with sizes.

    Raises:
        DatasetError: it cannot be read.
    """
    try:
        state = path.stat()
        if path.is_dir():
            listing = sorted((entry.name, entry.stat().st_size) for entry in path.iterdir())
            digest = hashlib.sha256("".join(f"{name} {size}\n" for name, size in listing).encode()).hexdigest()
            size = sum(size for _, size in listing)
        else:
            digest, size = _file_digest(path, state.st_size, state.st_mtime_ns), state.st_size
    except OSError as error:
        raise DatasetError(
            path, fault=f"cannot be read ({error.strerror})", remedy="check the path and rights"
        ) from None
    return {"name": path.name, "bytes": size, "mtime_ns": state.st_mtime_ns, "sha256": digest}


def unchanged(kept: Mapping[str, Any], path: Path | None) -> bool:
    """Say whether a source is what `facts` once said; one that is gone counts as unchanged, as nothing newer is there.

    Size and time are looked at first, so that files are read again only if one of these differs. In a folder, a
    picture that is overwritten in place with another of the same size goes unnoticed.
    """
    if path is None or not path.exists():
        return True
    if path.stat().st_mtime_ns == kept.get("mtime_ns"):
        return True
    now = facts(path)
    return bool(now["bytes"] == kept.get("bytes") and now["sha256"] == kept.get("sha256"))


@lru_cache(maxsize=16)
def _file_digest(path: Path, size: int, mtime_ns: int) -> str:
    """Return the file's SHA-256; remembered while size and time stay, as two people can share one video."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
