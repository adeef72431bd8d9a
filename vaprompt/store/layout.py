"""Where things lie in a store's folder, and the small JSON files that make its folders Zarr groups.

A Zarr v3 group is a folder with a `zarr.json`; its attributes are all that the store adds. They are written here
directly, because a marker must reach the disk at one known moment, whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from vaprompt import __version__
from vaprompt.errors import StoreError, TargetError
from vaprompt.store.attributes import FAILED as FAILED
from vaprompt.store.attributes import SPLITS as SPLITS
from vaprompt.store.attributes import TEXT as TEXT
from vaprompt.store.attributes import attribute_faults
from vaprompt.store.storage import Copy, Storage

FORMAT = 1
"""Version of the layout that docs/store-format.md describes."""

Stream = Literal["image", "audio", "labels"]
STREAMS: tuple[Stream, ...] = ("image", "audio", "labels")

GROUP_FILE = "zarr.json"
DIGEST = "digest"
"""Attribute of every group: the SHA-256 of the others, so that a changed bit in them is noticed too."""
ASIDE = ".aside"
"""Hidden folder in the store where a video is written before it is published by rename."""
LEASES = ".leases"
"""Hidden folder in the store, there only while somebody writes, that says who works on what."""
UNFINISHED = ".unfinished"
"""Hidden file in a store that is being copied; it goes when all is there."""
BEING_COPIED = b"This store is being copied. Run the same command again to finish it.\n"

SYNCS = 4
"""Files that are waited for at once until they are safely on the disk."""

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def checked_name(name: str, where: Path | str) -> str:
    """Return a video's name if it can be a folder of a store (letters, digits, `.`, `_`, `-`, no dot in front).

    Raises:
        StoreError: it cannot, so that no name can leave the store's folder or clash with Zarr's own files.
    """
    if not is_name(name):
        raise StoreError(
            where,
            fault=f"'{name}' cannot be the name of a video in a store",
            remedy="rename it with letters, digits, dots, hyphens and underscores only, not starting with a dot or __",
        )
    return name


def is_name(name: str) -> bool:
    """Say whether a video can have this name in a store."""
    return _NAME.fullmatch(name) is not None and name != GROUP_FILE and not name.startswith("__")


def read_attributes(storage: Storage, group: str = "") -> dict[str, Any] | None:
    """Return the attributes of a Zarr group (without their digest), or None where there is no group.

    Raises:
        StoreError: its metadata is damaged, or is not what was written.
    """
    key = joined(group, GROUP_FILE)
    try:
        raw = storage.read(key)
    except FileNotFoundError:
        return None
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise damaged(storage, key, f"cannot be read ({error})", group) from None
    if not isinstance(content, dict) or content.get("zarr_format") != 3 or content.get("node_type") != "group":
        raise damaged(storage, key, "is not the metadata of a Zarr v3 group", group)
    attributes = content.get("attributes")
    if not isinstance(attributes, dict):
        raise damaged(storage, key, "has no attributes", group)
    found = attributes.pop(DIGEST, None)
    if not group and attributes.get("format", FORMAT if found else None) != FORMAT:
        return attributes  # of another version or program: whoever asks says so
    try:
        digest = digest_of(attributes)
        whole = found == digest and raw == _metadata(attributes, digest)
    except (ValueError, RecursionError):  # numbers that JSON does not have
        whole = False
    if not whole:
        raise damaged(storage, key, "is not what was written", group)
    for fault in attribute_faults(group, attributes):
        raise damaged(storage, key, fault, group)
    return attributes


def require_format(where: Path | str, root: Mapping[str, Any]) -> None:
    """Check that a store, whose root has these attributes, is of the format that is read here.

    Raises:
        StoreError: it is of another one.
    """
    if root.get("format") == FORMAT:
        return
    made_by = root.get("made_by")
    version = made_by.get("vaprompt") if isinstance(made_by, dict) else None
    found = root.get("format", "of another program")
    raise StoreError(
        str(where),
        fault=f"has format {found}, vaprompt {__version__} reads format {FORMAT}",
        remedy=f"use vaprompt {version}, which wrote it, or later" if version else "use the vaprompt that made it",
    )


def parse_group(content: bytes) -> dict[str, Any] | None:
    """Return the attributes in a group's `zarr.json` (without their digest); None where it is not what was written."""
    try:
        attributes = json.loads(content)["attributes"]
        del attributes[DIGEST]
        return attributes if content == group_metadata(attributes) else None
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None


def place(storage: Storage, key: str) -> str:
    """Return where a key lies, as errors name it."""
    return "/".join(part for part in (str(storage.location).rstrip("/"), key) if part)


def joined(*parts: str) -> str:
    """Return the key that leads through the parts; empty ones are left out."""
    return "/".join(part for part in parts if part)


def group_metadata(attributes: Mapping[str, Any]) -> bytes:
    """Return the content of the `zarr.json` of a group with these attributes and their digest.

    One content has one form, so that no changed byte is without effect, not even among the blanks.
    """
    return _metadata(attributes, digest_of(attributes))


def _metadata(attributes: Mapping[str, Any], digest: str) -> bytes:
    content = {"zarr_format": 3, "node_type": "group", "attributes": {**attributes, DIGEST: digest}}
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False).encode()


def digest_of(attributes: Mapping[str, Any]) -> str:
    """Return the SHA-256 of attributes as canonical JSON: sorted keys, no blanks, ASCII."""
    text = json.dumps(attributes, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def medium_of(marker: Mapping[str, Any]) -> str | None:
    """Return the digest of the media file that a video's stream was made of; None where its marker says none."""
    found: str | None = marker.get("source", {}).get("media", {}).get("sha256")
    return found


def damaged(storage: Storage, key: str, fault: str, unit: str) -> StoreError:
    """Return the error for a file of a store that is not as it was written; the group `unit` has to be made anew."""
    anew = place(storage, unit)
    remedy = f"restore it from a copy, or delete {anew} and run extract again"
    if isinstance(storage, Copy):
        remedy = f"delete {anew}: the same command fetches it again"
    return StoreError(place(storage, key), fault=fault, remedy=remedy)


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
    with writable(group):
        if not group.is_dir():
            group.mkdir(parents=True, exist_ok=True)
            sync_folder(group.parent)
    write_file(group / GROUP_FILE, group_metadata(attributes), aside=aside)


def write_file(target: Path, content: bytes, *, aside: Path | None = None) -> None:
    """Put a file in place, whole or not at all, and safely on the disk.

    Args:
        target: the file.
        content: what is to be in it.
        aside: the folder to write it in first, on the same disk; default: the target's own.

    Raises:
        TargetError: it cannot be written.
    """
    work = (aside or target.parent) / f".{target.name.lstrip('.')}.{uuid.uuid4().hex[:12]}"
    with writable(target.parent):
        try:
            with work.open("wb") as out:
                out.write(content)
                out.flush()
                os.fsync(out.fileno())
            work.replace(target)
        finally:
            work.unlink(missing_ok=True)
        sync_folder(target.parent)


def begin_sync(descriptor: int) -> None:
    """Let what is written of an open file set out for the disk, without waiting, so that little is left to be synced.

    Nothing depends on it: systems that know no such advice, and disks that take none, sync all of it later.
    """
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            # Of pages that are not needed, Linux begins to write those that differ, and keeps them until that is done.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def sync_folder(folder: Path) -> None:
    """Let the names in a folder reach the disk."""
    _sync([str(folder)])


def sync_tree(folder: Path) -> None:
    """Let every file below a folder, and every name in it, reach the disk."""
    places = [(place, names) for place, _, names in os.walk(folder, topdown=False)]
    files = [f"{place}/{name}" for place, names in places for name in names]
    # Several at a time, since most of it is waiting for the disk, which then takes them together.
    with ThreadPoolExecutor(SYNCS) as pool:
        for paths in (files, [place for place, _ in places]):
            for _ in pool.map(_sync, (paths[start::SYNCS] for start in range(SYNCS))):
                pass


def _sync(paths: Iterable[str]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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
