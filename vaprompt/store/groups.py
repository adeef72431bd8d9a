"""The groups that a store is made of, whatever its streams: what is copied when a store is, byte for byte.

A group is its `zarr.json` and, where that lists any, its files. Two groups with the same digest of their `zarr.json`
are the same, since it holds the digests of all the rest.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vaprompt.errors import StoreError, TooLargeError
from vaprompt.store.attributes import is_file
from vaprompt.store.index import Index, build_index, other_groups, read_index
from vaprompt.store.layout import (
    FAILED,
    GROUP_FILE,
    checked_name,
    damaged,
    group_metadata,
    joined,
    place,
    read_attributes,
)
from vaprompt.store.storage import Storage
from vaprompt.store.streams import kind_of

_FILE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*/(zarr\.json|c(/[0-9]{1,12})+)")
"""The files that a group of this format has: of each array its metadata and its chunks."""


@dataclass(frozen=True)
class Group:
    """One published group, wherever it lies."""

    storage: Storage
    key: str
    """Its path below the root, which itself is the empty one."""
    attributes: Mapping[str, Any]

    @property
    def metadata(self) -> bytes:
        """Its `zarr.json`."""
        return group_metadata(self.attributes)

    @property
    def files(self) -> Mapping[str, Mapping[str, Any]]:
        """`bytes` and `sha256` of each file, by its path in the group; none where it is only attributes."""
        files: Mapping[str, Mapping[str, Any]] = self.attributes.get("files", {})
        return files

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(facts["bytes"] for facts in self.files.values())

    def read(self, file: str) -> bytes:
        """Return one of its files, with the digest that its marker says.

        Raises:
            StoreError: it is missing or not what was written.
        """
        facts, key = self.files[file], joined(self.key, file)
        try:
            # Its length is known, and so no more is read: over a network, asking for it would double the requests.
            content = self.storage.read(key, facts["bytes"])
        except FileNotFoundError:
            self.require_unchanged()
            raise damaged(self.storage, key, "is missing", self.key) from None
        except TooLargeError:
            self.require_unchanged()
            raise
        if len(content) != facts["bytes"]:
            self.require_unchanged()
            fault = f"has {len(content)} bytes instead of {facts['bytes']}"
            raise damaged(self.storage, key, fault, self.key)
        if hashlib.sha256(content).hexdigest() != facts["sha256"]:
            self.require_unchanged()
            raise damaged(self.storage, key, "is not what was written", self.key)
        return content

    def require_unchanged(self) -> None:
        """Check that nobody has made the group anew since it was looked at: its files are then of another one.

        Raises:
            StoreError: somebody has, or it is gone.
        """
        if self.storage.size(joined(self.key, GROUP_FILE)) is None or read_group(self.storage, self.key) != self:
            fault = "was made anew, or removed, while it was being read"
            raise StoreError(place(self.storage, self.key), fault=fault, remedy="run the same command again")

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of its files in order of names; raises what `read` does."""
        for file in sorted(self.files):
            yield file, self.read(file)


def read_group(storage: Storage, key: str) -> Group | None:
    """Return a group, if it is there and published; what its marker lists stays within it.

    Raises:
        StoreError: its marker is damaged, or lists what no group of this format has.
    """
    attributes = read_attributes(storage, key)
    if attributes is None or attributes.get("status", "done") != "done":
        return None
    files = attributes.get("files", {})
    marker = joined(key, GROUP_FILE)
    if not isinstance(files, dict) or not all(is_file(file, facts) for file, facts in files.items()):
        raise damaged(storage, marker, "lists its files in another form", key)
    for file in files:
        if not _FILE.fullmatch(file):
            raise StoreError(
                place(storage, marker), fault=f"lists a file '{file[:80]}'", remedy="do not trust this store"
            )
    return Group(storage, key, attributes)


def required_group(storage: Storage, key: str) -> Group:
    """Return a group that was there a moment ago.

    Raises:
        StoreError: it is gone, its marker is damaged, or lists what no group of this format has.
    """
    group = read_group(storage, key)
    if group is None:
        fault = "was removed, or is just being replaced by one that is made anew"
        raise StoreError(place(storage, key), fault=fault, remedy="run the same command again")
    return group


def digests(index: Index, where: str) -> dict[str, str]:
    """Return the SHA-256 of the `zarr.json` of every group in an index, by key, with names that stay within a store.

    Raises:
        StoreError: a name is none of a store's.
    """
    found = dict(index.groups)
    for stream, videos in index.markers.items():
        found |= {joined(stream, video): str(summary["marker"]) for video, summary in videos.items()}
    for key in found:
        parts = key.split("/") if key else []
        if len(parts) > 2:
            raise StoreError(where, fault=f"lists a group '{key[:80]}'", remedy="do not trust this store")
        for part in parts:
            checked_name(part, where)
    return found


def fresh_index(storage: Storage) -> Index:
    """Return the index of a store from its groups alone, whatever its own index says.

    Raises:
        StoreError: a group is damaged.
    """
    return build_index(storage)


def known_index(storage: Storage) -> Index:
    """Return a store's index, its own where that tells of the present state.

    Raises:
        StoreError: a group is damaged.
    """
    found = read_index(storage)
    return found if found is not None and found.groups == other_groups(storage) else fresh_index(storage)


def is_failures(key: str) -> bool:
    """Say whether a group is about videos that could not be extracted."""
    return kind_of(key.partition("/")[0]) == FAILED


def content_digest(found: Mapping[str, str]) -> str:
    """Return one digest for all of a store's groups: that of what is in it, wherever it lies."""
    text = json.dumps(found, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
