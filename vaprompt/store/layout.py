"""Where things lie in a store's folder, and the small JSON files that make its folders Zarr groups.

A Zarr v3 group is a folder with a `zarr.json`; its attributes are all that the store adds. They are written here
directly, because a marker must reach the disk at one known moment, whole or not at all.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from vaprompt.errors import StoreError, TargetError

FORMAT = 1
"""Version of the layout that docs/store-format.md describes."""

Stream = Literal["image", "audio", "labels"]
STREAMS: tuple[Stream, ...] = ("image", "audio", "labels")

SPLITS = ("train", "validation", "test")

GROUP_FILE = "zarr.json"
ASIDE = ".aside"
"""Hidden folder in the store where a video is written before it is published by rename."""
LEASES = ".leases"
"""Hidden folder in the store, there only while somebody writes, that says who works on what."""
FAILED = "failed"
TEXT = "text"

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def checked_name(name: str, where: Path) -> str:
    """Return a video's name if it can be a folder of a store (letters, digits, `.`, `_`, `-`, no dot in front).

    Raises:
        StoreError: it cannot, so that no name can leave the store's folder or clash with Zarr's own files.
    """
    if not _NAME.fullmatch(name) or name == GROUP_FILE or name.startswith("__"):
        raise StoreError(
            where,
            fault=f"'{name}' cannot be the name of a video in a store",
            remedy="rename it with letters, digits, dots, hyphens and underscores only, not starting with a dot or __",
        )
    return name


def read_attributes(group: Path) -> dict[str, Any] | None:
    """Return the attributes of a Zarr group, or None where there is no group.

    Raises:
        StoreError: its metadata is damaged.
    """
    file = group / GROUP_FILE
    try:
        content = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, OSError) as error:
        raise damaged(file, f"cannot be read ({error})", group) from None
    if not isinstance(content, dict) or content.get("zarr_format") != 3 or content.get("node_type") != "group":
        raise damaged(file, "is not the metadata of a Zarr v3 group", group)
    attributes = content.get("attributes", {})
    if not isinstance(attributes, dict):
        raise damaged(file, "has attributes that are not a mapping", group)
    return attributes


def damaged(file: Path, fault: str, unit: Path) -> StoreError:
    """Return the error for a file of a store that is not as it was written; `unit` is what has to be made anew."""
    return StoreError(file, fault=fault, remedy=f"restore it from a copy, or delete {unit} and run extract again")


def write_attributes(group: Path, attributes: Mapping[str, Any], *, aside: Path | None = None) -> None:
    """Make the folder a Zarr group with these attributes, whole or not at all, and safely on the disk.

    Args:
        group: the folder, made if it is not there.
        attributes: all its attributes.
        aside: folder on the same disk for the half-written file, in which whoever finds it left there removes it;
            None: the group itself, for groups that lie aside as a whole.

    Raises:
        TargetError: it cannot be written.
    """
    content = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    aside = (aside or group) / f".{GROUP_FILE}.{uuid.uuid4().hex[:12]}"
    with writable(group):
        if not group.is_dir():
            group.mkdir(parents=True, exist_ok=True)
            sync_folder(group.parent)
        try:
            with aside.open("w", encoding="utf-8") as out:
                json.dump(content, out, indent=1, sort_keys=True, allow_nan=False)
                out.flush()
                os.fsync(out.fileno())
            aside.replace(group / GROUP_FILE)
        finally:
            aside.unlink(missing_ok=True)
        sync_folder(group)


def sync_folder(folder: Path) -> None:
    """Let the names in a folder reach the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Let every file below a folder, and every name in it, reach the disk."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            descriptor = os.open(Path(place, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(place))


def video_folders(group: Path) -> Iterator[Path]:
    """Yield the folders of a stream's videos, in order of their names."""
    if group.is_dir():
        yield from sorted(path for path in group.iterdir() if path.is_dir() and not path.name.startswith("."))


@contextmanager
def writable(target: Path) -> Iterator[None]:
    """Turn what the operating system says against writing into a TargetError that names `target`."""
    try:
        yield
    except OSError as error:
        raise TargetError(
            target,
            fault=f"cannot be written ({error.strerror or error})",
            remedy="check the rights and the free space, or choose another place; then run the same command again",
        ) from None
