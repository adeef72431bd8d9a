"""What is published in a store, group by group, as it has to be copied: each file checked against its digest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaprompt.store.feature_store import FeatureStore
from vaprompt.store.layout import checked_name, damaged, joined, place, read_attributes
from vaprompt.store.reading import read_listed
from vaprompt.store.storage import Storage

_FILE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*/(zarr\.json|c(/[0-9]{1,12})+)")
"""The files that a group of this format has: of each array its metadata and its chunks."""

_MAPPINGS = ("files", "fingerprint", "dataset", "recipe", "made_by")


@dataclass(frozen=True)
class Group:
    """One published group, wherever it lies; what it holds is read when it is needed."""

    source: Storage
    key: str
    """Such as `image`, `image/video1` or `text`."""
    bytes: int
    """Of the files in its marker."""

    def attributes(self) -> dict[str, Any]:
        """Return its attributes.

        Raises:
            StoreError: they are damaged, or it is gone.
        """
        return published_attributes(self.source, self.key)

    @property
    def stream(self) -> str:
        """The top-level group that it is or belongs to."""
        return self.key.partition("/")[0]

    @property
    def video(self) -> str | None:
        """The video that it is of; None of a top-level group."""
        return self.key.partition("/")[2] or None


def contents(storage: Storage) -> list[Group]:
    """Return every published group but the root, parents before what is in them, in order of names.

    Raises:
        StoreError: a marker is damaged, or names what no group of this format has.
    """
    found = []
    for stream in storage.folders(""):
        top = _group(storage, checked_name(stream, storage.location))
        if top is None:
            continue
        found.append(top)
        if "files" not in top.attributes():
            below = (joined(stream, checked_name(name, storage.location)) for name in storage.folders(stream))
            found += [group for key in below if (group := _group(storage, key)) is not None]
    return found


def open_contents(location: Path | str) -> tuple[FeatureStore, list[Group]]:
    """Return a store and what is published in it.

    Raises:
        StoreError: there is none, or a marker is damaged.
    """
    store = FeatureStore.open(location)
    root_attributes(store)
    return store, contents(store.storage)


def root_attributes(store: FeatureStore) -> dict[str, Any]:
    """Return the attributes of a store's root.

    Raises:
        StoreError: they are damaged.
    """
    return published_attributes(store.storage, "")


def published_attributes(storage: Storage, key: str) -> dict[str, Any]:
    """Return the attributes of a group that is there, with a list of files that fits the format.

    Raises:
        StoreError: they are damaged, or it is gone.
    """
    attributes = read_attributes(storage, key)
    if attributes is None:
        raise damaged(place(storage, key), "is gone", place(storage, key))
    for name in _MAPPINGS:
        if not isinstance(attributes.get(name, {}), dict):
            raise damaged(place(storage, key), f"holds as '{name}' what no store has", place(storage, key))
    for name, facts in attributes.get("files", {}).items():
        whole = isinstance(facts, dict) and type(facts.get("bytes")) is int and facts["bytes"] >= 0
        if not whole or not isinstance(facts.get("sha256"), str) or not _FILE.fullmatch(name):
            raise damaged(place(storage, key), f"lists a file '{name[:80]}' as no store has it", place(storage, key))
    return attributes


def verified_files(storage: Storage, key: str, attributes: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the files that a group's attributes list, in order of names, each with its digest.

    Raises:
        StoreError: one is missing or is not what was written.
    """
    for name in sorted(attributes.get("files", {})):
        content = read_listed(storage, key, name, attributes)
        if hashlib.sha256(content).hexdigest() != attributes["files"][name]["sha256"]:
            raise damaged(place(storage, joined(key, name)), "is not what was written", place(storage, key))
        yield name, content


def is_same(storage: Storage, root: Mapping[str, Any], groups: list[Group]) -> bool:
    """Say whether a storage holds exactly this root and these groups, every file with its digest.

    Raises:
        StoreError: what is there is damaged.
    """
    if read_attributes(storage) != root:
        return False
    there = contents(storage)
    if [group.key for group in there] != [group.key for group in groups]:
        return False
    for mine, theirs in zip(there, groups, strict=True):
        attributes = mine.attributes()
        if attributes != theirs.attributes():
            return False
        for _ in verified_files(storage, mine.key, attributes):
            pass
    return True


def _group(storage: Storage, key: str) -> Group | None:
    """Return a published group; None where a folder is none, or not whole yet."""
    if storage.size(joined(key, "zarr.json")) is None:
        return None
    attributes = published_attributes(storage, key)
    if attributes.get("status", "done") != "done":
        return None
    return Group(storage, key, sum(facts["bytes"] for facts in attributes.get("files", {}).values()))
