"""A store behind a URL, to read.

What is there comes from its index, which was written last, and each marker is held against the digest in it. Where
there is no index, a bucket is listed; a plain web server cannot be.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from vaprompt.errors import StoreError
from vaprompt.store.groups import read_group
from vaprompt.store.index import INDEX_FILE, MOST_INDEX, Index, parse_index, summary
from vaprompt.store.layout import GROUP_FILE, joined, parse_group, require_format
from vaprompt.store.network import Objects, connect
from vaprompt.store.storage import MOST_METADATA, key_parts, require_small
from vaprompt.store.urls import shown

AT_ONCE = 16
"""Requests at a time."""
PUSH_NOTE = ".push.json"
"""There while a push is under way or was cut short; says what is being pushed."""


def open_remote(url: str) -> Remote | None:
    """Return the store behind a URL; None where there is none.

    Raises:
        StoreError: it is only half there, or we may not read it.
        UnreachableError: the server does not answer.
    """
    store = Remote(url)
    try:
        store.read(GROUP_FILE)
    except FileNotFoundError:
        if store.note() is None:
            return None
        fault = "is not whole yet: a push is under way, or was cut short"
        raise StoreError(store.location, fault=fault, remedy="run the same push again, or wait for it") from None
    return store


class Remote:
    """Files below a URL; what is said of the whole store is read once."""

    def __init__(self, url: str) -> None:
        """Connect when first asked.

        Raises:
            StoreError: the URL cannot be used, or a package is missing.
        """
        self._whole_url, self._url = url, shown(url)
        self.objects: Objects = connect(url)
        self._once: dict[str, bytes | None] = {}
        self._sizes: dict[str, dict[str, int]] = {}
        self._index: Index | None = None

    def again(self) -> Remote:
        """Return the same files, of which nothing was read yet."""
        return Remote(self._whole_url)

    @property
    def location(self) -> str:
        """The URL, without secrets."""
        return self._url

    def read(self, key: str, most: int = MOST_METADATA) -> bytes:
        """Return a file's content; see `Storage`."""
        parts = key_parts(key, self._url)
        about_all = len(parts) < 3 and parts[-1] in (GROUP_FILE, INDEX_FILE)
        content = self._read_once(key, most) if about_all else self._get(key, most)
        self._hold_against_index(parts, content)
        if content is None:
            raise FileNotFoundError(f"{self._url}/{key}")
        require_small(f"{self._url}/{key}", len(content), most)
        return content

    def size(self, key: str) -> int | None:
        """Return a file's bytes; see `Storage`."""
        parts = key_parts(key, self._url)
        if len(parts) > 2 and self.objects.lists:  # a stream's files are asked for one after the other
            return self.files(joined(*parts[:2])).get("/".join(parts[2:]))
        return self.objects.size(key)

    def folders(self, key: str) -> list[str]:
        """Return the folders in a folder; see `Storage`."""
        key_parts(key, self._url)
        index = self.index()
        if index is None:
            if not self.objects.lists:
                fault = f"has no {INDEX_FILE}, and a web server cannot be asked what it holds"
                remedy = "serve a folder that 'vaprompt extract' or 'vaprompt store pull' wrote, with its hidden files"
                raise StoreError(self._url, fault=fault, remedy=remedy)
            return [name for name in self.objects.folders(key) if not name.startswith(".")]
        groups = {*index.groups, *(joined(stream, video) for stream, found in index.markers.items() for video in found)}
        return sorted({name.rpartition("/")[2] for name in groups if name and name.rpartition("/")[0] == key})

    def files(self, key: str) -> dict[str, int]:
        """Return all files below a folder; see `Storage`. Of a web server: those that its marker lists."""
        if key not in self._sizes:
            key_parts(key, self._url)
            if self.objects.lists:
                self._sizes[key] = self.objects.files(key)
            else:
                group = read_group(self, key)
                listed = {} if group is None else {file: facts["bytes"] for file, facts in group.files.items()}
                self._sizes[key] = listed if group is None else listed | {GROUP_FILE: len(group.metadata)}
        return self._sizes[key]

    def stamp(self, key: str) -> int | None:
        """Return 0: the index is trusted."""
        return 0

    def index(self) -> Index | None:
        """Return the store's index; None where there is none that is whole."""
        if self._index is None:
            content = self._read_once(INDEX_FILE, MOST_INDEX)
            self._index = None if content is None else parse_index(content)
        return self._index

    def require_format(self) -> None:
        """Check that the store's root, if it is there and can be read, is of the format that is read here.

        Raises:
            StoreError: it is of another one.
        """
        try:
            attributes = json.loads(self._read_once(GROUP_FILE, MOST_METADATA) or b"")["attributes"]
        except (ValueError, RecursionError, KeyError, TypeError):
            return
        if isinstance(attributes, dict):
            require_format(self._url, attributes)

    def root(self) -> dict[str, Any] | None:
        """Return the attributes of the store's root; None where there is none that is whole."""
        return parse_group(self._read_once(GROUP_FILE, MOST_METADATA) or b"")

    def untouched(self) -> bool:
        """Say whether there is neither a store nor the beginning of one; a beginning alone holds nothing to read."""
        return self._read_once(GROUP_FILE, MOST_METADATA) is None

    def survey(self) -> Index:
        """Return the index of what is there now, from the markers themselves; for a bucket whose index cannot be had.

        Groups that are damaged are left out, as if they were not there. It then stands for the store's own index.

        Raises:
            StoreError: it is a web server.
        """
        there = self.objects.files("")
        keys = [key for key in there if key.rpartition("/")[2] == GROUP_FILE and key.count("/") < 3]
        markers: dict[str, dict[str, Any]] = {}
        groups: dict[str, str] = {}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for key, content in zip(keys, pool.map(lambda key: self._get(key, MOST_METADATA), keys), strict=True):
                attributes = None if content is None else parse_group(content)
                if content is None or attributes is None:
                    continue
                parts = key.split("/")[:-1]
                if len(parts) == 2 and "files" in attributes:
                    markers.setdefault(parts[0], {})[parts[1]] = summary(attributes, content)
                else:
                    groups["/".join(parts)] = hashlib.sha256(content).hexdigest()
                if len(parts) < 2:
                    self._once[key] = content
        self._index = Index(dict.fromkeys(markers, 0), markers, groups)
        return self._index

    def note(self) -> dict[str, Any] | None:
        """Return what a push that is not finished says of itself."""
        try:
            found = json.loads(self.objects.get(PUSH_NOTE, MOST_METADATA))
        except (FileNotFoundError, ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    def _read_once(self, key: str, most: int) -> bytes | None:
        if key not in self._once:
            self._once[key] = self._get(key, most)
        return self._once[key]

    def _get(self, key: str, most: int) -> bytes | None:
        try:
            return self.objects.get(key, most)
        except FileNotFoundError:
            return None

    def _hold_against_index(self, parts: list[str], content: bytes | None) -> None:
        """Refuse a group that is not the one in the index: it was replaced since, or did not arrive.

        Raises:
            StoreError: it is not.
        """
        if parts[-1] != GROUP_FILE or len(parts) > 3:
            return
        index = self.index()
        if index is None:
            return
        group = joined(*parts[:-1])
        said = index.groups.get(group)
        if said is None and len(parts) == 3:
            said = index.markers.get(parts[0], {}).get(parts[1], {}).get("marker")
        if said is not None and (content is None or hashlib.sha256(content).hexdigest() != said):
            state = "is missing" if content is None else "is not the one"
            raise StoreError(
                f"{self._url}/{joined(*parts)}",
                fault=f"{state} that the store's index lists: the store is half copied, or being changed",
                remedy="run the push that makes it again, or wait for it",
            )
