"""The index at a store's root: what the markers say, in one file. It is a cache and can be made again from them.

A store of hundreds of videos is listed from one read instead of thousands, which matters most where each read crosses a
network. In a folder it counts only while no video was added, replaced or removed since; in an archive or a remote
store, which are written once with the index last, it always does.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vaprompt.errors import TooLargeError
from vaprompt.store.attributes import MADE_BY, summary_faults
from vaprompt.store.layout import (
    FAILED,
    FORMAT,
    GROUP_FILE,
    TEXT,
    digest_of,
    group_metadata,
    joined,
    read_attributes,
    writable,
)
from vaprompt.store.storage import Storage
from vaprompt.store.streams import kind_of

INDEX_FILE = ".index.json"
TICK = 0.02
"""Seconds within which two changes of a folder can have the same time."""
MOST_INDEX = 2**31
"""Bytes of the largest index that is read or written; a video takes about two thousand."""


@dataclass(frozen=True)
class Index:
    """What is published in each stream."""

    stamps: Mapping[str, int | None]
    """Stream -> its folder's stamp when the index was made."""
    markers: Mapping[str, Mapping[str, Mapping[str, Any]]]
    """Stream -> video -> summary of its marker."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Every other group -> SHA-256 of its `zarr.json`: the root, the streams, `text`, what failed. With the markers it
    says whether two stores are the same, without reading either."""

    def current(self, storage: Storage) -> bool:
        """Say whether nothing was published or removed since; where nothing stamps folders, an index counts."""
        if not storage.stamp(""):
            return True
        return dict(self.stamps) == {stream: storage.stamp(stream) for stream in _streams(storage)}


def summary(marker: Mapping[str, Any], content: bytes) -> dict[str, Any]:
    """Return a marker without its files and its maker, but with the files' bytes and the marker's own digest."""
    kept = {key: value for key, value in marker.items() if key not in ("files", MADE_BY)}
    size = sum(facts["bytes"] for facts in marker.get("files", {}).values())
    return kept | {"bytes": size, "marker": hashlib.sha256(content).hexdigest()}


def build_index(storage: Storage) -> Index:
    """Return the index of what is there, from the markers.

    Raises:
        StoreError: a marker is damaged.
    """
    # Before the markers are read: what is published meanwhile makes the index old, never wrong.
    stamps = {stream: storage.stamp(stream) for stream in _streams(storage)}
    if storage.stamp(""):
        # What is published after the folders were listed must get a later time, and their clock is no finer than this.
        time.sleep(TICK)
    return Index(stamps, {stream: _summaries(storage, stream) for stream in stamps}, other_groups(storage))


def other_groups(storage: Storage) -> dict[str, str]:
    """Return the digests of the groups that are no video's stream, by key; see `Index.groups`.

    Raises:
        StoreError: one is damaged.
    """
    tops = storage.folders("")
    failed = (joined(top, video) for top in tops if kind_of(top) == FAILED for video in storage.folders(top))
    found = {}
    for group in ("", *tops, *failed):
        attributes = read_attributes(storage, group)
        if attributes is not None:
            found[group] = hashlib.sha256(group_metadata(attributes)).hexdigest()
    return found


def index_bytes(index: Index) -> bytes:
    """Return an index as the content of its file."""
    content = {
        "format": FORMAT,
        "stamps": dict(index.stamps),
        "markers": index.markers,
        "groups": dict(index.groups),
    }
    return json.dumps({**content, "digest": digest_of(content)}, sort_keys=True, separators=(",", ":")).encode()


def index_file(index: Index) -> bytes | None:
    """Return the content of an index's file; None where it would be too large to be read."""
    content = index_bytes(index)
    return content if len(content) <= MOST_INDEX else None


def parse_index(content: bytes) -> Index | None:
    """Return the index in the content of its file; None where it is damaged, or of another form."""
    if not _is_whole(content):
        return None
    try:
        found = json.loads(content)
        if found["format"] != FORMAT:
            return None
        index = Index(dict(found["stamps"]), dict(found["markers"]), dict(found["groups"]))
        plain = all(stamp is None or type(stamp) is int for stamp in index.stamps.values())
        plain &= all(isinstance(digest, str) for digest in index.groups.values())
        if not plain or any(
            type(one["bytes"]) is not int or not isinstance(one["marker"], str) or any(summary_faults(stream, one))
            for stream, videos in index.markers.items()
            for one in videos.values()
        ):
            return None
        return index
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None


def _is_whole(content: bytes) -> bool:
    """Say whether an index has its digest. It stands first, and is of all the rest, which is not made anew for it."""
    start = b'{"digest":"'
    end = content.find(b'",', len(start))
    if not content.startswith(start) or end < 0:
        return False
    digest = hashlib.sha256(b"{")
    digest.update(memoryview(content)[end + 2 :])
    return content[len(start) : end] == f"sha256:{digest.hexdigest()}".encode()


def read_index(storage: Storage) -> Index | None:
    """Return the index; None where there is none, it is too large or damaged, or it tells of an earlier state."""
    try:
        index = parse_index(storage.read(INDEX_FILE, MOST_INDEX))
    except (FileNotFoundError, TooLargeError):
        return None
    return index if index is not None and index.current(storage) else None


def outdate(stream: Path) -> None:
    """Let every index be old that was begun before now: a marker in this stream's folder was written in its place.

    That changes no entry of the folder, and so would not be seen; and another writer can be about to put an index in
    place that it made before.

    Raises:
        TargetError: the folder's time cannot be set.
    """
    with writable(stream):
        os.utime(stream)


def _streams(storage: Storage) -> list[str]:
    return [folder for folder in storage.folders("") if kind_of(folder) not in (TEXT, FAILED)]


def _summaries(storage: Storage, stream: str) -> dict[str, dict[str, Any]]:
    found = {}
    for video in storage.folders(stream):
        group = joined(stream, video)
        marker = read_attributes(storage, group)
        if marker is not None and marker.get("status") == "done":
            found[video] = summary(marker, storage.read(joined(group, GROUP_FILE)))
    return found
