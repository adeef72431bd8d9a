"""Bringing a local store behind a URL: files first, each marker after its files, the root and the index last."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from vaprompt.errors import StoreError, TargetError
from vaprompt.progress import SILENT, Progress, Task
from vaprompt.store.feature_store import FeatureStore
from vaprompt.store.fingerprint import require_equal
from vaprompt.store.groups import Group, digests, fresh_index, is_failures, read_group, required_group
from vaprompt.store.index import INDEX_FILE, Index, index_file
from vaprompt.store.layout import GROUP_FILE, joined
from vaprompt.store.remote import AT_ONCE, PUSH_NOTE, Remote
from vaprompt.store.streams import with_streams
from vaprompt.store.transfer import MB, Count, Transfer, all_at_once, arrived
from vaprompt.store.urls import local_path, scheme_of, shown

PUSHABLE = ("s3", "gs")
SETTLED = 2.0
"""Seconds after which an index that another was just writing over ours has come."""
MOST_REFUSED = 10
"""How often another index may get ahead of ours, until it is written whatever is there; ours is then looked for."""


def push(source: Path | str, url: str, *, progress: Progress = SILENT) -> Transfer:
    """Bring a local store behind a URL; what is there and differs is replaced, what is there besides stays.

    The files of a video's stream come first, its marker after them, the root's attributes and the index last.

    Raises:
        StoreError: a local file is damaged, or there can be written no store at the URL.
        FingerprintError: the store there was made of another data set, or otherwise.
        TargetError: something else is there.
        UnreachableError: the server does not answer.
    """
    require_pushable(url)
    if local_path(source) is None:
        raise StoreError(shown(str(source)), fault="is not on this machine", remedy="pull it first, then push that")
    return _Push(FeatureStore.open(source), Remote(url), progress).run()


def require_pushable(url: str) -> None:
    """Refuse a URL that no store can be written to, before any work is done.

    Raises:
        StoreError: it is none.
    """
    scheme = scheme_of(url)
    if scheme in PUSHABLE:
        return
    remedies = {
        None: "give a URL, such as s3://BUCKET/STORE.zarr; to a folder, a plain copy will do",
        "file": "copy the folder, with its hidden files",
        "hf": "upload the folder with its hidden files: hf upload-large-folder USER/NAME STORE --repo-type=dataset",
    }
    remedy = remedies.get(scheme, "push to s3:// or gs://, or copy the folder, hidden files too, to where it is served")
    raise StoreError(shown(url), fault="is no bucket that can be pushed to", remedy=remedy)


class _Push:
    """One push under way."""

    def __init__(self, source: FeatureStore, target: Remote, progress: Progress) -> None:
        self._source, self._target, self._objects, self._progress = source, target, target.objects, progress
        self._storage = source.storage
        self._mine = fresh_index(self._storage)
        self._ours = digests(self._mine, str(source.location))
        self._note = {
            "dataset": source.dataset,
            "fingerprints": self._fingerprints(),
            "host": socket.gethostname(),
            "process": os.getpid(),
            "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "push": uuid.uuid4().hex,
        }
        self._theirs = Index({}, {})
        self._root = required_group(self._storage, "")
        self._count = Count()

    def run(self) -> Transfer:
        started = time.monotonic()
        note = self._target.note()
        index = self._target.index()
        # What a push left that was cut short is in no index: then the markers themselves are asked.
        self._theirs = index if index is not None and note is None else self._target.survey()
        self._require_same(note)
        self._root = self._united_root()
        self._ours[""] = _digest(self._root)
        theirs = digests(self._theirs, self._target.location)
        todo = [key for key, digest in self._ours.items() if theirs.get(key) != digest]
        if todo or self._healed(theirs) or note is not None or index is None:
            self._put(PUSH_NOTE, json.dumps(self._note, sort_keys=True).encode())
            self._bring(todo, theirs)
            self._publish(index)
        return self._count.result(len(todo), len(self._ours) - len(todo), started)

    def _bring(self, todo: Sequence[str], theirs: Mapping[str, str]) -> None:
        groups = [arrived(self._storage, key) for key in todo if key]
        for group in groups:
            if _digest(group) != self._ours[group.key]:
                where, fault = f"{self._source.location}/{group.key}", "was made anew while the push began"
                raise StoreError(where, fault=fault, remedy="run the same command again")
        held, bare = [g for g in groups if g.files], [g for g in groups if not g.files]
        with (
            self._progress.task("pushing", total=sum(group.size for group in held) / MB, unit="MB") as task,
            ThreadPoolExecutor(AT_ONCE) as files,
        ):
            all_at_once(held, lambda group: self._group(group, group.key in theirs, files, task))
        # Streams before the root, which makes it all a store.
        for group in sorted(bare, key=lambda group: group.key.count("/"), reverse=True):
            self._put(joined(group.key, GROUP_FILE), group.metadata)
        if "" in todo:
            self._put_root()

    def _united_root(self) -> Group:
        """Return our root, and besides its named streams those of the root that is there."""
        there = self._target.root() or {}
        return replace(self._root, attributes=with_streams(self._root.attributes, there))

    def _put_root(self) -> None:
        """Write our root; another push can put its own there at the same time, with streams that must not be lost."""
        for refused in range(MOST_REFUSED + 1):
            version = self._objects.version(GROUP_FILE)
            self._target = self._target.again()
            self._root = self._united_root()
            if self._put(GROUP_FILE, self._root.metadata, over=version if refused < MOST_REFUSED else None):
                break
        self._ours[""] = _digest(self._root)

    def _group(self, group: Group, there: bool, files: ThreadPoolExecutor, task: Task) -> None:
        marker = joined(group.key, GROUP_FILE)
        if not (there and self._has_files(group)):
            if there:  # its files are about to change: a reader must not take some of each
                self._objects.remove([marker])
            for size in files.map(lambda file: self._file(group, file), group.files):
                self._count.add(size, task, group.key)
            found = self._objects.files(group.key)
            for file, facts in group.files.items():
                if found.get(file) != facts["bytes"]:
                    fault = f"has {found.get(file)} bytes on arrival instead of {facts['bytes']}"
                    raise StoreError(
                        f"{self._target.location}/{joined(group.key, file)}", fault=fault, remedy="push again"
                    )
            self._objects.remove([joined(group.key, file) for file in found.keys() - group.files.keys() - {GROUP_FILE}])
        else:
            self._count.skip(group.size, task, group.key)
        self._put(marker, group.metadata)

    def _has_files(self, group: Group) -> bool:
        """Say whether the group there has the same files, so that only its marker differs."""
        try:
            there = read_group(self._target, group.key)
        except StoreError:
            return False
        return there is not None and there.files == group.files

    def _file(self, group: Group, file: str) -> int:
        content = group.read(file)
        self._objects.put(joined(group.key, file), content, bytes.fromhex(group.files[file]["sha256"]))
        return len(content)

    def _put(self, key: str, content: bytes, *, over: str | None = None) -> bool:
        return self._objects.put(key, content, hashlib.sha256(content).digest(), over=over)

    def _require_same(self, note: Mapping[str, Any] | None) -> None:
        """Refuse to push over another data set, format or fingerprint, or something that is no store."""
        self._target.require_format()
        where, remedy = self._target.location, "push it to a place of its own"
        if not self._theirs.groups and note is None:
            if self._objects.folders("") or self._objects.files(""):
                raise TargetError(where, fault="is not empty, and holds no feature store", remedy=remedy)
            return
        said = note or {}
        root = read_group(self._target, "") if "" in self._theirs.groups else None
        there = said.get("dataset") if root is None else root.attributes.get("dataset")
        if isinstance(there, dict):
            require_equal(there, self._source.dataset, where=where, remedy=remedy)
        noted = said.get("fingerprints", {})
        for stream, mine in self._fingerprints().items():
            group = read_group(self._target, stream) if stream in self._theirs.groups else None
            theirs = noted.get(stream) if group is None else group.attributes.get("fingerprint")
            if isinstance(theirs, dict):
                require_equal(theirs, mine, where=f"{where}/{stream}", remedy=remedy)

    def _fingerprints(self) -> dict[str, Mapping[str, Any]]:
        tops = (read_group(self._storage, key) for key in self._mine.groups if key and "/" not in key)
        return {
            group.key: group.attributes["fingerprint"]
            for group in tops
            if group is not None and "fingerprint" in group.attributes
        }

    def _publish(self, began: Index | None) -> None:
        """Write the index in place of the one that was there when this `began`, and remove our note.

        Others can push meanwhile, and nothing can be locked. So where the note or the index is another's, the index is
        made of what is there, and looked at again once it is written: it must not be lost under one made before. S3
        writes ours only in place of the one that we saw; other servers may not look.
        """
        there, crowded, refused = began, False, 0
        index: Index | None = self._together()
        while True:
            now = self._target.again()
            version = self._objects.version(INDEX_FILE)  # first: what is read is this one, or a later one
            others, found = now.note() != self._note, now.index()
            if (others and not crowded) or found not in (there, index):
                there, index, crowded = found, self._survey(), True
            elif found == index:
                break
            else:
                content = None if index is None else index_file(index)
                if content is None:
                    self._objects.remove([INDEX_FILE])
                    index = None
                elif not self._put(INDEX_FILE, content, over=version if refused < MOST_REFUSED else None):
                    refused += 1
                    continue
                there = index
                if crowded:
                    time.sleep(SETTLED)
        if self._target.note() == self._note:  # another's stays: that push is under way, or was cut short
            self._objects.remove([PUSH_NOTE])

    def _healed(self, theirs: Mapping[str, str]) -> list[str]:
        """Return the groups there that tell of failures of videos that we have; what else others pushed stays."""
        videos = {key.partition("/")[2] for key in self._ours} - {""}
        return [key for key in theirs if is_failures(key) and key not in self._ours and key.partition("/")[2] in videos]

    def _together(self) -> Index:
        """Return the index of what was there when this began and of what was pushed."""
        markers = {stream: dict(found) for stream, found in self._theirs.markers.items()}
        for stream, found in self._mine.markers.items():
            markers.setdefault(stream, {}).update(found)
        groups = {**self._theirs.groups, **self._mine.groups, "": self._ours[""]}
        return self._without_healed(Index(dict.fromkeys(markers, 0), markers, groups))

    def _survey(self) -> Index:
        """Return the index of what is there now, whoever pushed it.

        Raises:
            FingerprintError: another push has made it a store of another data set, or made otherwise.
        """
        self._target = self._target.again()
        self._theirs = self._target.survey()
        self._require_same(None)
        root = self._target.root()
        if root is not None and with_streams(root, self._root.attributes) != root:  # written over ours
            self._put_root()
            self._theirs = replace(self._theirs, groups={**self._theirs.groups, "": self._ours[""]})
        return self._without_healed(self._theirs)

    def _without_healed(self, index: Index) -> Index:
        healed = self._healed(digests(index, self._target.location))
        self._objects.remove([joined(key, GROUP_FILE) for key in healed])
        return replace(index, groups={key: digest for key, digest in index.groups.items() if key not in healed})


def _digest(group: Group) -> str:
    return hashlib.sha256(group.metadata).hexdigest()
